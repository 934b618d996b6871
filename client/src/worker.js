// A SharedWorker that holds the connections of a plain HTTP site's tabs: without a secure context there are no locks.
import { createCore } from './core.js';
import { answer } from './tabs.js';

const open = new Map(); // by URL and options

globalThis.onconnect = ({ ports: [port] }) => {
  let entry;
  const post = (message) => port.postMessage(message);
  const leave = () => {
    if (!entry?.ports.delete(post) || entry.ports.size) return;
    open.delete(entry.key);
    entry.off(true);
  };
  port.onmessage = ({ data: message }) => {
    if (message[0] === 'bye') {
      leave();
      port.close();
    } else if (message[0] === 'open') {
      const key = JSON.stringify(message[1]);
      entry = open.get(key);
      if (!entry) {
        const core = createCore(...message[1]), ports = new Set(), off = core._listen(() => {});
        open.set(key, (entry = { key, core, ports, off }));
        core._say = (said) => ports.forEach((send) => send(said));
        // Each tab gets a connection of its own: cookies that have changed since would not be seen here.
        if (message[1][1].tabs.key === undefined) core._private = () => {
          open.delete(key);
          ports.forEach((send) => send(['solo']));
          ports.clear();
          off(true);
        };
      }
      entry.ports.add(post);
    } else if (entry) answer(entry.core, message, post);
  };
};
