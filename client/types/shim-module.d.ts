/** Answers this page's own polls of some URLs, by fetch and XMLHttpRequest, from live streams. Call it before the page's own scripts run. */
export declare function shim(
  urls: readonly (string | URL)[],
  options?: {
    /** Query parameters that make no difference, such as a cache-buster's. */
    ignore?: readonly string[];
    /** Milliseconds without a question after which a stream is closed. Default 120000. */
    idle?: number;
  },
): { readonly stats: { readonly answered: number; readonly notModified: number; readonly passed: number }; remove(): void };
