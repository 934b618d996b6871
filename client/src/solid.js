import { createEffect, createSignal, onCleanup } from 'solid-js';
import { live } from './client.js';

/** Returns signals of a document and its status; the URL may be a signal. */
export function createLive(url, options) {
  const [data, setData] = createSignal(options?.initial?.data), [status, setStatus] = createSignal();
  createEffect(() => {
    const address = typeof url === 'function' ? url() : url, document = address ? live(address, options) : undefined;
    const update = () => {
      setData(() => document?.data);
      setStatus(() => document?.status);
    };
    if (document) onCleanup(document.onChange(update));
    update();
  });
  return [data, status];
}
