import { useMemo, useSyncExternalStore } from 'react';
import { live } from './client.js';

const none = { onChange: () => () => {}, getSnapshot() {} };

// A server has no URL of its own, and asks for nothing: any will do there.
const absolute = (url) => new URL(url, globalThis.document?.baseURI ?? 'http://server.invalid');

/** Keeps a component up to date with a document; nothing is asked for without a URL. */
export function useLive(url, options) {
  const document = useMemo(() => (url ? live(absolute(url), options) : none), [url ? `${url}` : '']);
  const data = useSyncExternalStore(document.onChange, document.getSnapshot, document.getSnapshot), getStatus = () => document.status;
  return { data, status: useSyncExternalStore(document.onChange, getStatus, getStatus), live: url ? document : undefined };
}
