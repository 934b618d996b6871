import { shallowRef, toValue, watchEffect } from 'vue';
import { live } from './client.js';

/** Returns refs of a document and its status; the URL may be a ref or a getter. */
export function useLive(url, options) {
  const data = shallowRef(options?.initial?.data), status = shallowRef(), document = shallowRef();
  // On a server there is nobody to push to.
  if (globalThis.window) {
    watchEffect((onCleanup) => {
      const address = toValue(url), opened = address ? live(address, options) : undefined;
      const update = () => {
        data.value = opened?.data;
        status.value = opened?.status;
      };
      document.value = opened;
      if (opened) onCleanup(opened.onChange(update));
      update();
    });
  }
  return { data, status, live: document };
}
