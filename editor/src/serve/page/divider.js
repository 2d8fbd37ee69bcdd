// The divider between photo and edit: dragged anywhere on the picture, or moved by keys.

const STEPS = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };

export function startDivider(frame, divider) {
  let split = 50;

  function move(percent) {
    split = Math.min(100, Math.max(0, percent));
    const shown = Math.round(split);
    frame.style.setProperty('--split', `${split}%`);
    divider.setAttribute('aria-valuenow', shown);
    divider.setAttribute('aria-valuetext', `photo on the left ${shown} %`);
  }

  const follow = (event) => {
    const box = frame.getBoundingClientRect();
    move((100 * (event.clientX - box.left)) / box.width);
  };
  frame.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    divider.focus({ preventScroll: true, focusVisible: false });
    follow(event);
    event.preventDefault();
  });
  frame.addEventListener('pointermove', (event) => frame.hasPointerCapture(event.pointerId) && follow(event));
  divider.addEventListener('keydown', (event) => {
    if (!(event.key in STEPS)) return;
    move(split + STEPS[event.key]);
    event.preventDefault();
  });
  move(split);
}
