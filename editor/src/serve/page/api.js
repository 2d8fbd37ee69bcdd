// The server's JSON interface, as the page uses it. A refusal comes as {error, hint}.

export class Refused extends Error {
  constructor(status, { error, hint }, retryAfter) {
    super(hint ? `${error}: ${hint}` : error);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  get isBusy() {
    return this.retryAfter > 0 && (this.status === 503 || this.status === 429);
  }
}

export async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Refused(0, { error: 'The server does not answer', hint: 'is it still running?' }, 0);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({ error: `The server answered ${response.status}`, hint: '' }));
  throw new Refused(response.status, body, Number(response.headers.get('Retry-After')) || 0);
}

const TRIES = 6;
const LONGEST_PAUSE_SECONDS = 15;

// As `ask`, but comes again when the server is busy; `onBusy` hears in how many seconds.
export async function askPatiently(url, options, onBusy) {
  for (let tries = 1; ; tries++) {
    try {
      return await ask(url, options);
    } catch (error) {
      if (!(error instanceof Refused) || !error.isBusy || tries >= TRIES) throw error;
      const seconds = Math.min(error.retryAfter, LONGEST_PAUSE_SECONDS);
      onBusy(seconds);
      await pause(1000 * seconds, options.signal);
    }
  }
}

export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stopped = () => reject(new DOMException('no longer wanted', 'AbortError'));
    if (signal?.aborted) return stopped();
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener('abort', () => { clearTimeout(timer); stopped(); }, { once: true });
  });
}

export function editAddress(photo, { run, weights, strength, format, quality }) {
  const emotions = [...weights].map(([emotion, weight]) => `${emotion}:${weight}`).join(',');
  return `/api/photos/${photo.id}/edit?${new URLSearchParams({ run, emotions, strength, format, quality })}`;
}
