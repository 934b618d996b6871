// What a page writes, as TypeScript sees it.
import { applyMerge, applyPatch, live, LiveError, share, type Change, type Live, type Status } from '../../dist/client.js';

interface Quotes {
  readonly time: string;
  readonly quotes: readonly { readonly symbol: string; readonly price: number }[];
}

const quotes: Live<Quotes> = live<Quotes>('/api/quotes', {
  headers: async () => ({ authorization: 'Bearer x' }),
  initial: { data: { time: '', quotes: [] }, id: 'v' },
  tabs: { key: 'user' },
  hidden: { pauseAfter: 1000 },
  numbers: (source) => source,
  onerror: (error: LiveError) => console.log(error.kind, error.fatal),
});
const stop: () => void = quotes.subscribe((doc, change?: Change<Quotes>) => {
  if (change?.type === 'patch') for (const operation of change.patch) if (operation.op === 'move') console.log(operation.from);
  console.log(doc.quotes[0].price + 1);
});
const price: Live<number> = quotes.at<number>('/quotes/0/price');
const symbols: Live<string[]> = quotes.select((doc) => doc.quotes.map(({ symbol }) => symbol));
const status: Status = quotes.status;
for await (const doc of quotes) console.log(doc.time, status.state, symbols.data?.length);
console.log((await price.ready).toFixed(2), applyPatch({ a: 1 }, []).a, applyMerge({ a: 1 }, {}).a, share({ a: 1 }, { a: 1 }).a);
stop();
{
  using short = live('/x');
  // @ts-expect-error a document is never written to
  (short as Live<Quotes>).data!.time = '';
}
// @ts-expect-error no such option
live('/x', { intervall: 1 });
export {};
