/** Why there is no news: docs/client.md lists the kinds. */
export class LiveError extends Error {
  constructor(kind, message, more) {
    super(`${kind}: ${message}`);
    Object.assign(this, { name: 'LiveError', kind, fatal: kind === 'denied' }, more);
  }
}
