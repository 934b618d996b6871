import { live } from './client.js';
import { shim as patch } from './shim.js';

/** Answers this page's own polls of some URLs from live streams. Call it before the page's own scripts run. */
export const shim = (urls, { ignore = [], idle } = {}) => patch(urls.map((url) => [url, ignore]), async () => live, { idle });
