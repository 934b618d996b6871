import type { MaybeRefOrGetter, ShallowRef } from 'vue';
import type { Json, Live, Options, Status } from './client.js';

/** Returns refs of a document and its status; the URL may be a ref or a getter. */
export declare function useLive<T = Json>(
  url: MaybeRefOrGetter<string | URL | null | undefined>,
  options?: Options<T>,
): { data: ShallowRef<T | undefined>; status: ShallowRef<Status | undefined>; live: ShallowRef<Live<T> | undefined> };
