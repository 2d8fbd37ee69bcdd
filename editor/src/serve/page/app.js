// The page: one photo at a time, and the edit that is wanted now. An older answer never replaces a newer one.
import { Refused, ask, askPatiently, editAddress, pause } from '/api.js';
import { startDivider } from '/divider.js';

const COLOURS = {
  amusement: '#d0921a', anger: '#c8453b', awe: '#5664d2', contentment: '#4f9a6a',
  disgust: '#7f8a2e', excitement: '#df732c', fear: '#8a5cb5', sadness: '#4a7fb0',
};
const STRENGTHS = [-1, -0.5, 0, 0.5, 1, 1.5];
const [SLIDER_REST_MS, FULL_AFTER_MS, POLL_MS] = [140, 500, 300];
const SUFFIX = { png: 'png', jpeg: 'jpg', webp: 'webp' };

const by = (id) => document.getElementById(id);
const [desk, frame, compare, before, after, strip] = ['desk', 'frame', 'compare', 'before', 'after', 'strip'].map(by);
const slider = by('strength');

let runs = [];
let limits = null;
let photo = null; // as the server describes it, with the file's name
let choice = null; // {run, weights: Map}
const work = { send: null, show: null, sweep: null }; // an AbortController each

// ---- What the page says ----

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const number = (value) => String(Math.round(value * 100) / 100).replace('-', '−');
const strength = () => Number(slider.value);
const named = () => [...choice.weights].map(([emotion, w]) => (w === 1 ? emotion : `${emotion} ${number(w)}`)).join(' + ');

function say(text) {
  by('status').textContent = text;
  by('problem').hidden = true;
}

function tell(error) {
  if (error.name === 'AbortError') return;
  if (error.status === 404 && photo) leavePhoto();
  by('status').textContent = '';
  by('problem').textContent = error.message;
  by('problem').hidden = false;
}

const onBusy = (seconds) => say(`Many people are here. Trying again in ${seconds} s …`);

function renew(name) {
  work[name]?.abort();
  work[name] = new AbortController();
  return work[name].signal;
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// ---- A photo comes and goes ----

async function send(file) {
  const signal = renew('send');
  forget();
  say('Sending the photo …');
  by('progress').hidden = false;
  by('progress').removeAttribute('value');
  try {
    const response = await askPatiently('/api/photos', { method: 'POST', body: file, signal }, onBusy);
    photo = { ...(await response.json()), name: file.name || 'photo' };
    await arrive(signal);
    await wait(signal);
    photo.warnings.forEach((warning) => say(warning));
    refresh();
  } catch (error) {
    tell(error);
  } finally {
    if (work.send?.signal === signal) by('progress').hidden = true;
  }
}

async function arrive(signal) {
  const { width, height } = photo.size;
  for (const element of [frame, strip]) {
    element.style.setProperty('--width', width);
    element.style.setProperty('--height', height);
  }
  const address = `/api/photos/${photo.id}/original?quality=preview&format=${shownFormat()}`;
  await paint(before, await askPatiently(address, { signal }, onBusy));
  after.removeAttribute('src');
  by('caption').textContent = `${width} × ${height} pixels; the edit keeps this size`;
  by('drop').hidden = true;
  compare.hidden = false;
  compare.classList.add('plain');
  by('photo-actions').hidden = false;
  update();
}

// Follows the photo's inversion until edits can start.
async function wait(signal) {
  for (;;) {
    const now = await (await ask(`/api/photos/${photo.id}`, { signal })).json();
    if (now.state === 'failed') throw new Refused(422, now, 0);
    if (now.state === 'ready') break;
    if (now.state === 'inverting') {
      Object.assign(by('progress'), { max: now.steps, value: now.step });
      say(`Reading the photo: ${now.step} of ${now.steps} steps`);
    } else {
      say(now.place ? `In line: ${now.place} before you` : 'Next in line');
    }
    await pause(POLL_MS, signal);
  }
  by('progress').hidden = true;
  if (!by('problem').hidden) return;
  say(choice ? '' : 'Ready. Choose a feeling.');
}

// Tells the server; the page stays as it is.
function forget() {
  work.show?.abort();
  work.sweep?.abort();
  if (photo) fetch(`/api/photos/${photo.id}`, { method: 'DELETE', keepalive: true }).catch(() => {});
  photo = null;
}

function leavePhoto() {
  forget();
  compare.hidden = true;
  by('sweep').hidden = true;
  by('sweep-button').setAttribute('aria-expanded', 'false');
  by('photo-actions').hidden = true;
  by('drop').hidden = false;
  by('progress').hidden = true;
  update();
}

// ---- The edit ----

const isScaled = () => photo.size.width !== photo.preview.width;
const shownFormat = () => (isScaled() ? 'jpeg' : 'png');
const picture = (options, signal) =>
  askPatiently(editAddress(photo, { run: choice.run.name, weights: choice.weights, ...options }), { signal }, onBusy);

// Puts an answer's picture into `image` once it is decoded, so that nothing flickers.
async function paint(image, response) {
  const address = URL.createObjectURL(await response.blob());
  const ready = new Image();
  ready.src = address;
  await ready.decode();
  if (image.src.startsWith('blob:')) URL.revokeObjectURL(image.src);
  image.src = address;
}

async function show() {
  const signal = renew('show');
  if (!photo) return;
  if (!choice?.weights.size) {
    compare.classList.add('plain');
    return;
  }
  const wanted = { strength: strength(), format: shownFormat() };
  frame.classList.add('working');
  try {
    await present(await picture({ ...wanted, quality: 'preview' }, signal), signal);
    say(`${capital(named())} at ${number(wanted.strength)}`);
    if (isScaled()) {
      await pause(FULL_AFTER_MS, signal);
      await present(await picture({ ...wanted, quality: 'full' }, signal), signal);
    }
  } catch (error) {
    tell(error);
  } finally {
    if (work.show.signal === signal) frame.classList.remove('working');
  }
}

async function present(response, signal) {
  const held = { src: '' };
  await paint(held, response);
  if (signal.aborted) {
    URL.revokeObjectURL(held.src);
    throw new DOMException('no longer wanted', 'AbortError');
  }
  if (after.src.startsWith('blob:')) URL.revokeObjectURL(after.src);
  after.src = held.src;
  after.alt = `The photo with ${named()} at ${number(strength())}`;
  compare.classList.remove('plain');
}

async function sweep() {
  const signal = renew('sweep');
  if (by('sweep').hidden || !photo || !choice?.weights.size) return;
  try {
    await pause(SLIDER_REST_MS, signal);
    for (const value of STRENGTHS) {
      const response = await picture({ strength: value, format: shownFormat(), quality: 'preview' }, signal);
      const image = strip.querySelector(`button[data-strength="${value}"] img`);
      await paint(image, response);
      image.hidden = false;
    }
  } catch (error) {
    tell(error);
  }
}

async function download(format) {
  const value = strength();
  say(`Making the ${format.toUpperCase()} …`);
  try {
    const response = await picture({ strength: value, format, quality: 'full' });
    const stem = photo.name.replace(/\.[^.]*$/, '');
    const emotions = [...choice.weights.keys()].join('-');
    const href = URL.createObjectURL(await response.blob());
    make('a', { href, download: `${stem}.${emotions}.strength-${value}.${SUFFIX[format]}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
    say('Downloaded.');
  } catch (error) {
    tell(error);
  }
}

// ---- Controls ----

function pick(run, emotion) {
  choice = { run, weights: new Map([[emotion, 1]]) };
  refresh();
}

function mix(run, emotion, weight) {
  const weights = new Map(choice?.run === run ? choice.weights : []);
  if (weight) weights.set(emotion, weight);
  else weights.delete(emotion);
  choice = { run, weights };
  refresh();
}

function refresh() {
  update();
  show();
  sweep();
}

// Brings the controls in line with photo and choice.
function update() {
  const isChosen = (run, emotion) => choice?.run.name === run && choice.weights.has(emotion);
  for (const chip of by('emotions').children) {
    chip.setAttribute('aria-pressed', isChosen(chip.dataset.run, chip.dataset.emotion));
  }
  const run = choice?.run ?? runs[0];
  by('mix').hidden = !run || run.emotions.length < 2;
  if (run && by('weights').dataset.run !== run.name) buildWeights(run);
  for (const input of by('weights').querySelectorAll('input')) {
    const weight = choice?.run === run ? choice.weights.get(input.name) ?? 0 : 0;
    input.value = weight;
    input.nextElementSibling.textContent = number(weight);
  }
  const strongest = choice && [...choice.weights].sort((a, b) => b[1] - a[1])[0]?.[0];
  desk.style.setProperty('--feeling', COLOURS[strongest] ?? '');
  by('strength-value').textContent = number(strength());
  slider.setAttribute('aria-valuetext', number(strength()));
  const idle = !photo || !choice?.weights.size;
  by('sweep-button').disabled = idle;
  document.querySelectorAll('[data-format]').forEach((button) => { button.disabled = idle; });
  for (const button of strip.children) button.setAttribute('aria-pressed', Number(button.dataset.strength) === strength());
}

function buildEmotions() {
  const count = (emotion) => runs.filter((run) => run.emotions.includes(emotion)).length;
  for (const run of runs) {
    for (const emotion of run.emotions) {
      const label = count(emotion) > 1 ? `${capital(emotion)} · ${run.name}` : capital(emotion);
      const chip = make('button', { type: 'button', textContent: label, onclick: () => pick(run, emotion) });
      Object.assign(chip.dataset, { run: run.name, emotion });
      if (COLOURS[emotion]) chip.style.setProperty('--own', COLOURS[emotion]);
      by('emotions').append(chip);
    }
  }
}

function buildWeights(run) {
  const rows = run.emotions.map((emotion) => {
    const input = make('input', { type: 'range', min: 0, max: 1, step: 0.05, name: emotion });
    input.addEventListener('input', rested(() => mix(run, emotion, Number(input.value))));
    return make('label', {}, make('span', { textContent: capital(emotion) }), input, make('output', { textContent: '0', ariaLive: 'off' }));
  });
  by('weights').replaceChildren(...rows);
  by('weights').dataset.run = run.name;
}

function buildStrip() {
  for (const value of STRENGTHS) {
    const image = make('img', { alt: '', hidden: true });
    const button = make('button', { type: 'button' }, make('span', { className: 'thumb' }, image), make('span', { textContent: number(value) }));
    button.setAttribute('aria-label', `Strength ${number(value)}`);
    button.dataset.strength = value;
    button.onclick = () => { slider.value = value; update(); show(); };
    strip.append(button);
  }
}

function buildRuns() {
  for (const run of runs) {
    const facts = make('dl');
    const fact = (term, ...value) => facts.append(make('dt', { textContent: term }), make('dd', {}, ...value));
    fact('Emotions', run.emotions.join(', '));
    fact('Base model', run.base.name);
    fact('UNet’s weights', make('code', { textContent: run.base.hashes.unet.slice(0, 16), title: `blake3 ${run.base.hashes.unet}` }));
    if (run.recipe) fact('Recipe', make('a', { href: run.recipe, textContent: 'config.resolved.yaml' }));
    for (const file of run.files.filter((file) => file.url !== run.recipe)) {
      const hash = make('code', { textContent: file.blake3.slice(0, 16), title: `blake3 ${file.blake3}` });
      fact('File', make('a', { href: file.url, textContent: file.name, download: '' }), ' ', hash);
    }
    by('runs').append(make('section', { className: 'run' }, make('h3', { textContent: run.name }), facts));
  }
  const seen = runs.find((run) => run.seen_only)?.seen_only;
  by('seen').hidden = !seen;
  by('seen').textContent = `The model behind this page is small and has seen ${seen} only. Of another photo it changes more than the feeling.`;
}

// Runs `action` when its event has not come again for a moment.
function rested(action) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, SLIDER_REST_MS);
  };
}

function listen() {
  by('file').addEventListener('change', (event) => {
    if (event.target.files[0]) send(event.target.files[0]);
    event.target.value = '';
  });
  by('another').onclick = () => by('file').click();
  by('forget').onclick = () => { leavePhoto(); say('The photo is forgotten.'); by('file').focus(); };
  const showWhenRested = rested(show);
  slider.addEventListener('input', () => { update(); showWhenRested(); });
  by('sweep-button').onclick = ({ currentTarget }) => {
    by('sweep').hidden = !by('sweep').hidden;
    currentTarget.setAttribute('aria-expanded', !by('sweep').hidden);
    sweep();
  };
  for (const button of document.querySelectorAll('[data-format]')) button.onclick = () => download(button.dataset.format);
  const dragging = (on) => (event) => { event.preventDefault(); document.body.classList.toggle('dragging', on); };
  addEventListener('dragover', dragging(true));
  addEventListener('dragleave', dragging(false));
  addEventListener('drop', (event) => {
    dragging(false)(event);
    if (event.dataTransfer?.files[0]) send(event.dataTransfer.files[0]);
  });
  addEventListener('paste', (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((file) => file.type.startsWith('image/'));
    if (file) send(file);
  });
  addEventListener('pagehide', forget);
  addEventListener('pageshow', (event) => event.persisted && location.reload());
}

async function start() {
  buildStrip();
  listen();
  startDivider(frame, by('divider'));
  try {
    ({ runs, limits } = await (await ask('/api/runs')).json());
  } catch (error) {
    tell(error);
    return;
  }
  buildEmotions();
  buildRuns();
  const only = runs.length === 1 && runs[0].emotions.length === 1;
  if (only) choice = { run: runs[0], weights: new Map([[runs[0].emotions[0], 1]]) };
  const [megabytes, megapixels] = [limits.max_bytes / 1e6, limits.max_pixels / 1e6].map((n) => Math.round(n * 10) / 10);
  by('terms').textContent = `PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF, up to ${megabytes} MB and ${megapixels} megapixels. `
    + `It stays in this server’s memory, and is forgotten when you leave, or after ${number(limits.keep_minutes)} minutes.`;
  update();
}

start();
