// The classic script that stands first in a page; its configuration stands in its data- attributes.
import { shim } from './shim.js';

const { urls, client } = document.currentScript.dataset;
globalThis.pollSSEShim = shim(JSON.parse(urls), () => import(client).then(({ live }) => live));
