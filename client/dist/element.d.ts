import type { Change, Json, Status } from './client.js';

/** <live-json src at>: shows a value that is text, and fires change and status. */
export interface LiveJsonElement extends HTMLElement {
  readonly data: Json | undefined;
  readonly status: Status | undefined;
  addEventListener(type: 'change', listener: (event: CustomEvent<{ data: Json | undefined; change?: Change }>) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: 'status', listener: (event: CustomEvent<Status>) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
}

declare global {
  interface HTMLElementTagNameMap {
    'live-json': LiveJsonElement;
  }
}
