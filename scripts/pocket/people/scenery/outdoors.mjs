// Places under the sky. Each takes a random stream and gives { svg, words }.
import { CANVAS, disc, gradient, hsl, rect } from './shapes.mjs';

function sky(r) {
  const hue = r.pick([200, 210, 20, 330, 260, 45]);
  const top = hsl(hue, r.between(35, 75), r.between(60, 82));
  const bottom = hsl(hue + r.between(-30, 30), r.between(30, 60), r.between(75, 92));
  return gradient(r, top, bottom);
}

export function hills(r) {
  let svg = sky(r);
  const horizon = r.between(60, 92);
  const green = r.between(80, 140);
  for (let i = 0; i < 3; i++) {
    const x = r.between(0, CANVAS);
    const peak = horizon - r.between(18, 50);
    const fill = hsl(r.between(200, 260), 20, r.between(48, 72));
    svg += `<polygon points="${x - 50},${horizon + 2} ${x},${peak} ${x + 50},${horizon + 2}" fill="${fill}"/>`;
  }
  svg += rect(0, horizon, CANVAS, CANVAS, hsl(green, r.between(30, 60), r.between(35, 60)));
  return { svg, words: 'on a meadow with mountains behind' };
}

export function sea(r) {
  const horizon = r.between(55, 85);
  let svg = sky(r);
  svg += disc(r.between(8, 120), r.between(8, horizon - 8), r.between(6, 12), hsl(48, 95, 78));
  svg += rect(0, horizon, CANVAS, 60, hsl(r.between(190, 215), 55, r.between(42, 60)));
  for (let wave = 0; wave < 7; wave++) {
    const x = r.between(0, 110);
    svg += rect(x, horizon + r.between(3, 20), r.between(8, 26), 1.5, '#ffffff', 'opacity=".5"');
  }
  svg += rect(0, horizon + 24, CANVAS, 60, hsl(42, 55, 74));
  return { svg, words: 'on a beach by the sea' };
}

export function city(r) {
  let svg = sky(r);
  const hue = r.between(0, 360);
  for (let house = 0; house < 7; house++) {
    const x = house * 19 - 4;
    const width = r.between(13, 20);
    const roof = r.between(20, 75);
    svg += rect(x, roof, width, CANVAS, hsl(hue + 15 * house, r.between(5, 25), r.between(28, 68)));
    for (let floor = 0; floor < 6; floor++) {
      svg += rect(x + 3, roof + 5 + floor * 10, width - 6, 4, r.chance(0.5) ? '#ffe793' : '#4b5a70');
    }
  }
  return { svg, words: 'in a city street with tall houses' };
}

export function park(r) {
  const horizon = r.between(70, 95);
  let svg = sky(r);
  svg += rect(0, horizon, CANVAS, CANVAS, hsl(r.between(85, 130), 42, r.between(42, 60)));
  for (let tree = 0; tree < 5; tree++) {
    const x = r.between(0, CANVAS);
    const crown = horizon - r.between(6, 30);
    svg += rect(x - 2, crown, 4, horizon - crown + 8, '#75553f');
    svg += disc(x, crown, r.between(10, 19), hsl(r.between(80, 150), 40, r.between(28, 52)));
  }
  return { svg, words: 'in a park with trees' };
}

export function night(r) {
  const hue = r.between(215, 275);
  let svg = gradient(r, hsl(hue, 55, r.between(10, 20)), hsl(hue + 20, 50, r.between(22, 38)));
  for (let star = 0; star < 26; star++) {
    svg += disc(r.between(0, CANVAS), r.between(0, 110), r.between(0.5, 1.4), '#fff8d8');
  }
  svg += disc(r.between(12, 116), r.between(10, 30), r.between(7, 12), '#f4ecc8');
  return { svg, words: 'under a starry night sky' };
}
