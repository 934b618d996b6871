// A server in the test's hand: each request waits for the test to answer it.
import { mock } from 'node:test';

/** Lets everything run that waits for no timer. */
export async function settle() {
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
}

/** Replaces timers and the clock for one test. tick moves the time and lets everything run. */
export function clock(t) {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1e12 });
  t.after(() => mock.timers.reset());
  return async (ms) => {
    await settle();
    for (; ms > 0; ms -= 500) {
      mock.timers.tick(Math.min(ms, 500));
      await settle();
    }
  };
}

export class Server {
  requests = [];
  fetch = (url, { headers, signal, ...rest }) => new Promise((resolve, reject) => {
    const request = { url: new URL(url), headers: new Headers(headers), signal, ...rest };
    request.isStream = request.headers.get('accept') === 'text/event-stream';
    request.answer = (status, body = null, fields = {}) => resolve(new Response(body, { status, headers: { 'content-type': 'application/json', ...fields } }));
    request.fail = (error = new TypeError('fetch failed')) => reject(error);
    signal?.addEventListener('abort', () => {
      request.aborted = true;
      reject(signal.reason);
    });
    request.stream = (text = '') => {
      let controller;
      const body = new ReadableStream({ start: (c) => (controller = c) }), encoder = new TextEncoder();
      signal?.addEventListener('abort', () => controller.error(signal.reason));
      resolve(new Response(body, { headers: { 'content-type': 'text/event-stream' } }));
      request.send = (more) => controller.enqueue(encoder.encode(more));
      request.end = () => controller.close();
      request.break = () => controller.error(new TypeError('network error'));
      if (text) request.send(text);
      return request;
    };
    this.requests.push(request);
  });
  /** The nth request that is still unseen, or the newest. */
  get last() {
    return this.requests.at(-1);
  }
  get streams() {
    return this.requests.filter((request) => request.isStream);
  }
}

let made = 0;
/** An address of its own, so that tests share no connection. */
export const address = () => `http://server.test/doc${++made}`;

export const version = (n) => `v${n}`.padEnd(22, '-');
export const event = (kind, data, id) => `event: ${kind}\n${id ? `id: ${id}\n` : ''}data: ${JSON.stringify(data)}\n\n`;
export const opening = 'retry: 3000\n\n: heartbeat 15\n\n';
export const live = event('status', { state: 'live', since: '2026-01-02T03:04:05.000Z', validated: '2026-01-02T03:04:05.000Z' });
export const snapshot = (data, n) => event('snapshot', data, version(n));
export const patch = (operations, n) => event('patch', operations, version(n));
