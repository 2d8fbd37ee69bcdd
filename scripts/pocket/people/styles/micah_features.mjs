// Features drawn for Micah in its own line. It is the unseen style: none of them is shared with another style.
// Eyes are in the coordinates of the style's eye group, so that glasses stay where they are; all else in the picture's.
import { tear } from '../features/index.mjs';

const stroke = (d, width = 4) =>
  `<path d="${d}" stroke="#000" stroke-width="${width}" stroke-linecap="round" stroke-linejoin="round"/>`;
const fill = (d, colour) => `<path d="${d}" fill="${colour}"/>`;
const shape = (d, colour, width) =>
  `<path d="${d}" fill="${colour}" stroke="#000" stroke-width="${width}" stroke-linejoin="round"/>`;

const CENTRES = [
  [16, 28],
  [80, 18],
]; // of the eyes

const both = eye => CENTRES.map(eye).join('');
const wide = (dx, dy, pupil) =>
  both(([x, y]) => `<circle cx="${x}" cy="${y}" r="15" fill="#fff" stroke="#000" stroke-width="3.5"/>`) +
  both(([x, y]) => `<circle cx="${x + dx}" cy="${y + dy}" r="${pupil}" fill="#000"/>`);
const star = ([x, y]) =>
  `<path transform="translate(${x} ${y}) scale(1.35) rotate(-8)"
    d="M0 -12L3.5 -4L12 -3.5L5.5 2L7.5 10.5L0 6L-7.5 10.5L-5.5 2L-12 -3.5L-3.5 -4Z"
    fill="#f7c948" stroke="#000" stroke-width="2.5" stroke-linejoin="round"/>`;
const heart = ([x, y]) =>
  `<path transform="translate(${x} ${y}) rotate(-8)"
    d="M0 13C-20 -2 -12 -15 -4 -12Q-1 -11 0 -7Q1 -11 4 -12C12 -15 20 -2 0 13Z"
    fill="#e0405a" stroke="#000" stroke-width="2.5"/>`;

const EYES = {
  wide: wide(0, 0, 6.5),
  lookUp: wide(2, -6, 6.5),
  tiny: wide(0, 1, 3.5),
  closed: stroke('M4 27C8 36 24 35 28 24') + stroke('M68 17C72 26 88 25 92 14'),
  wink: stroke('M4 30C9 22 22 20 28 27') + '<ellipse cx="80" cy="19" rx="9" ry="13" fill="#000"/>',
  narrow: stroke('M3 25L30 22M67 15L94 12') + fill('M8 25A9 9 0 0 0 26 23ZM71 15A9 9 0 0 0 89 13Z', '#000'),
  half: stroke('M2 26H30M66 16H95') + fill('M7 26A9 9 0 0 0 25 26ZM71 16A9 9 0 0 0 89 16Z', '#000'),
  droop: stroke('M2 33L29 22M68 12L96 21') + fill('M7 30A9 9 0 0 0 25 24ZM72 14A9 9 0 0 0 90 19Z', '#000'),
  squeeze: stroke('M4 20L28 29L5 38M92 9L69 20L94 27'),
  stars: both(star),
  hearts: both(heart),
};

const BROWS = {
  angry: stroke('M134 114L170 133M204 127L236 100', 6),
  high: stroke('M133 126C136 117 144 109 158 111M208 101C216 96 230 96 237 106'),
  uneven: stroke('M136 128L168 131M206 108C214 98 230 96 238 106'),
};

const PINK = '#FC909F';
const GREEN = '#7cc24a';
const MOUTHS = {
  flat: stroke('M178 211L224 206'),
  softSmile: stroke('M184 205Q205 222 226 199'),
  wavy: stroke('M174 214Q184 202 193 211T212 209T230 203'),
  o: '<ellipse cx="204" cy="212" rx="9" ry="12" fill="#000"/>',
  laughBig:
    shape('M170 194C186 199 214 195 236 186C240 216 226 240 206 241C184 242 170 222 170 194Z', '#000', 4) +
    fill('M176 199C190 203 214 199 232 192L231 200C214 208 192 211 177 207Z', '#fff') +
    `<ellipse cx="206" cy="229" rx="15" ry="7" fill="${PINK}"/>`,
  laughTongue:
    fill('M172 196C186 199 212 196 234 190C236 216 222 232 204 233C186 234 172 218 172 196Z', '#000') +
    `<path d="M190 224C198 214 214 212 222 220C222 240 216 250 207 250C196 250 190 240 190 224Z"
      fill="${PINK}" stroke="#000" stroke-width="3"/>`,
  shout:
    `<path d="M180 226C178 200 190 192 204 191C220 189 232 200 230 220C214 214 196 216 180 226Z"
      fill="#000" stroke="#000" stroke-width="4"/>` + fill('M188 203Q204 194 222 200L220 207Q204 202 190 210Z', '#fff'),
  openSad: shape('M184 222C182 206 192 198 204 197C218 196 228 204 228 218Q206 206 184 222Z', '#000', 4),
  tremble: `<path d="M180 218C178 200 190 204 202 203S222 198 229 204C232 218 220 216 208 217S190 222 180 218Z"
    fill="#000" stroke="#000" stroke-width="4"/>`,
  sneer:
    shape(
      `M174 228C176 208 188 205 196 204C204 202 208 187 220 187
      C233 187 239 202 237 216C229 205 218 205 206 209C194 212 184 215 174 228Z`,
      '#fff',
      4,
    ) + '<path d="M206 198V208M222 189V204M190 206L191 214" stroke="#000" stroke-width="2.5"/>',
  sick:
    fill('M176 222C178 202 192 195 206 194C222 192 234 200 236 214C216 210 196 212 176 222Z', '#000') +
    `<path d="M184 218C200 212 216 211 230 212C230 224 226 236 220 236C216 236 216 226 212 226
      C208 226 208 246 201 246C194 246 197 230 192 229C187 229 184 226 184 218Z"
      fill="${GREEN}" stroke="#000" stroke-width="2.5"/>`,
  yuck:
    stroke('M174 220C182 202 222 192 236 210') +
    `<path d="M192 206C200 200 214 199 220 202C223 226 218 242 208 242C197 242 192 226 192 206Z"
      fill="${PINK}" stroke="#000" stroke-width="3.5"/>` +
    '<path d="M207 206V224" stroke="#000" stroke-width="2.5"/>',
};

const FEATURES = { eyes: EYES, eyebrows: BROWS, mouth: MOUTHS };
export const micahFeature = (kind, name) => FEATURES[kind][name.slice(1)];

const MARKS = {
  tears: tear(150, 172, 0.9) + tear(232, 160, 0.9),
  wrinkles: stroke('M180 137L189 142M205 132L196 140M182 150L199 147', 3),
};
export const micahMarks = marks => marks.map(mark => MARKS[mark]).join('');
