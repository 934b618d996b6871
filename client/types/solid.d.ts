import type { Accessor } from 'solid-js';
import type { Json, Options, Status } from './client.js';

/** Returns signals of a document and its status; the URL may be a signal. */
export declare function createLive<T = Json>(
  url: string | URL | Accessor<string | URL | null | undefined>,
  options?: Options<T>,
): [data: Accessor<T | undefined>, status: Accessor<Status | undefined>];
