import type { Json, Live, Options, Status } from './client.js';

/** Keeps a component up to date with a document. The options of the first render with a URL hold; nothing is asked for without a URL. */
export declare function useLive<T = Json>(
  url: string | URL | null | undefined,
  options?: Options<T>,
): { data: T | undefined; status: Status | undefined; live: Live<T> | undefined };
