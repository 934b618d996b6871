import { createEffect, createRoot } from 'solid-js';
import { createLive } from 'poll-sse/solid';

createRoot(() => {
	const [data] = createLive('/api/quotes'), list = document.getElementById('root').appendChild(document.createElement('ul'));
	createEffect(() => list.replaceChildren(...(data()?.quotes ?? []).map(({ symbol, price }) => Object.assign(document.createElement('li'), { textContent: `${symbol} ${price}` }))));
});
