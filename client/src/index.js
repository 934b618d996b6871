export { applyMerge, applyPatch, share } from './apply.js';
export { LiveError } from './error.js';
export { live } from './live.js';
