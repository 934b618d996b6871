/** A JSON document. It is never written to again: a change makes a new one that shares what has stayed. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** An operation of a JSON Patch, RFC 6902. */
export type Operation =
  | { op: 'add' | 'replace' | 'test'; path: string; value: unknown }
  | { op: 'remove'; path: string }
  | { op: 'move' | 'copy'; from: string; path: string };

/** What has led from the previous document to this one. What came together is a batch. */
export type Change<T = Json> =
  | { type: 'patch'; patch: readonly Operation[]; previous: T; id: string }
  | { type: 'merge'; patch: unknown; previous: T; id: string }
  | { type: 'snapshot'; previous: T | undefined; id: string }
  | { type: 'batch'; changes: readonly Change<T>[]; previous: T | undefined; id: string };

/**
 * - connecting: no connection yet, or it was lost three seconds ago
 * - waiting: the server has no document yet
 * - live: the document is the upstream's newest
 * - stale: the upstream fails; the document is the last good one
 * - offline: as connecting, and the browser says that there is no network
 * - paused: nobody subscribes, or the page is hidden
 * - closed: close() was called
 * - failed: the server denies this client; reconnect() tries again
 */
export type State = 'connecting' | 'waiting' | 'live' | 'stale' | 'offline' | 'paused' | 'closed' | 'failed';

export interface Status {
  readonly state: State;
  readonly since: Date;
  /** When the upstream last confirmed the document, if the server has said so. */
  readonly validated?: Date;
  /** Why the document is stale, or the kind of the error. */
  readonly reason?: string;
  readonly error?: LiveError;
  readonly transport?: 'stream' | 'long-poll' | 'poll' | 'tab' | 'worker';
  /** When the next try begins. */
  readonly retryAt?: Date;
}

/**
 * - network: no connection, or it broke
 * - silent: nothing came for too long
 * - buffered: something on the way holds the stream back; long polls go on in its place
 * - http: another status than 200 and 304
 * - denied: 401, 403, 406, or the status denied; final until reconnect()
 * - refused: the server is full; tried again when it has said
 * - type: something else than an event stream or JSON, a login page for example
 * - data: an event that does not fit, or no JSON; the document is fetched anew
 */
export declare class LiveError extends Error {
  readonly kind: 'network' | 'silent' | 'buffered' | 'http' | 'denied' | 'refused' | 'type' | 'data';
  readonly fatal: boolean;
  /** Of the HTTP answer. */
  readonly status?: number;
  /** Seconds, as the server said. */
  readonly retryAfter?: number;
}

export interface Stats {
  readonly events: number;
  readonly patches: number;
  readonly snapshots: number;
  /** Bytes of streams and answers, decoded, that this page received itself: none in a tab that another one feeds. */
  readonly bytes: number;
  /** Bytes of the document once for each interval since the first one: what a page that polls would have received. */
  readonly pollingBytes: number;
  readonly connects: number;
  readonly resyncs: number;
  readonly since: Date;
}

export interface Options<T = Json> {
  /** A function is asked before each request, so that a token is fresh. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  credentials?: RequestCredentials;
  /** Closes the document. */
  signal?: AbortSignal;
  fetch?: (input: string | URL, init?: RequestInit) => Promise<Response>;
  /** The document that the page was rendered with, and its ETag without quotes; or <script type="application/json" data-id="…">. */
  initial?: { data: T; id: string } | Element;
  /** Other names of events, as the server's option event has them. */
  events?: Partial<Record<'snapshot' | 'patch' | 'merge' | 'status', string>>;
  /** auto: a stream, and long polls only where something holds it back. */
  transport?: 'auto' | 'stream' | 'long-poll' | 'poll';
  /**
   * auto: one connection for all tabs over HTTP/1.1, none shared over HTTP/2. worker: URL of worker.js, for plain HTTP.
   * key: whose documents these are; needed to share private ones, and with functions among the options.
   */
  tabs?: 'auto' | boolean | { worker?: string | URL; key?: string };
  /** keep: the connection stays while the page is hidden. Otherwise it is given back after pauseAfter milliseconds. */
  hidden?: 'keep' | { pauseAfter: number };
  /**
   * double: as JSON.parse. text: each number as it was written. bigint: integers that a double cannot hold become BigInt.
   * A function gets the text of each number.
   */
  numbers?: 'double' | 'bigint' | 'text' | ((source: string) => unknown);
  /** As JSON.parse's, for members of the document. It may replace scalars, not objects or lists: patches go into these. */
  reviver?: (name: string, value: any) => unknown;
  /** false: a snapshot shares nothing with the document before it. */
  share?: boolean;
  /** When subscribers are told: with each chunk from the network, each frame, or as the function says. */
  notify?: 'chunk' | 'frame' | ((run: () => void) => void);
  /** Milliseconds between two polls, where neither a stream nor a long poll gets through. Default 5000. */
  interval?: number;
  /** Milliseconds without a byte after which a stream is dead. Default: two and a half of the server's heartbeats. */
  silence?: number;
  onerror?: (error: LiveError) => void;
}

/** A document, or a part of one. It is kept up to date as long as somebody subscribes, and a second longer. */
export interface Live<T = Json> extends AsyncIterable<T>, Disposable {
  readonly data: T | undefined;
  readonly id: string | undefined;
  readonly status: Status;
  readonly stats: Stats;
  /** The first document. */
  readonly ready: Promise<T>;
  /** Calls run at once if there is a document, and with each change. Returns what ends that. A Svelte store's contract. */
  subscribe(run: (data: T, change?: Change<T>) => void): () => void;
  /** Calls run without values after each change of data or status. With getSnapshot: useSyncExternalStore's contract. */
  readonly onChange: (run: () => void) => () => void;
  readonly getSnapshot: () => T | undefined;
  /** Calls run at once, and with each change of the status. */
  onStatus(run: (status: Status) => void): () => void;
  /** The part at a JSON Pointer; undefined while there is none. Its subscribers are told of its changes only. */
  at<U = Json>(pointer: string): Live<U>;
  select<U>(choose: (data: T) => U): Live<U>;
  /** Tries again now, also after a failure that is final. */
  reconnect(): void;
  close(): void;
}

/** Keeps the JSON document at a URL of poll_sse up to date. */
export declare function live<T = Json>(url: string | URL, options?: Options<T>): Live<T>;

/** Applies an RFC 6902 patch without writing to the document. Throws if it does not fit. */
export declare function applyPatch<T>(document: T, patch: readonly Operation[]): T;
/** Applies an RFC 7396 merge patch without writing to the document. */
export declare function applyMerge<T>(document: T, patch: unknown): T;
/** Returns a document equal to next that holds the parts of previous that have not changed. */
export declare function share<T>(previous: T, next: T): T;
