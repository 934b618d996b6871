import { live } from '/poll-sse/client.js';

const quotes = live('/api/quotes');
const $ = (id) => document.getElementById(id);
const money = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const signed = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: 'exceptZero' });
const percent = new Intl.NumberFormat('en', { style: 'percent', minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: 'exceptZero' });
const integer = new Intl.NumberFormat('en');

// Prices since the page was opened, by symbol.
const history = new Map();
const rows = new Map();
let chosen;
let stop = () => {};

function remember({ symbol, price }) {
	const prices = history.get(symbol) ?? [];
	prices.push(price);
	if (prices.length > 300) prices.shift();
	history.set(symbol, prices);
}

const trend = (quote) => (quote.change > 0 ? 'up' : quote.change < 0 ? 'down' : 'same');

// ---- the list

function draw({ quotes: all }) {
	for (const quote of all) {
		remember(quote);
		const row = rows.get(quote.symbol) ?? addRow(quote);
		// What has not changed is the same object as before.
		if (row.quote === quote) continue;
		row.querySelector('.n').textContent = money.format(quote.price);
		row.querySelector('.move').textContent = percent.format(quote.change / quote.open);
		if (row.quote) flash(row, Math.sign(quote.price - row.quote.price));
		row.dataset.trend = trend(quote);
		row.quote = quote;
	}
	for (const [symbol, row] of rows) spark(row.querySelector('polyline'), history.get(symbol), 80, 24);
}

function addRow(quote) {
	const row = $('row').content.firstElementChild.cloneNode(true);
	row.querySelector('b').textContent = quote.symbol;
	row.querySelector('small').textContent = quote.name;
	row.words = `${quote.symbol} ${quote.name} ${quote.sector}`.toLowerCase();
	row.querySelector('button').addEventListener('click', () => choose(quote.symbol));
	$('quotes').append(row);
	rows.set(quote.symbol, row);
	return row;
}

function flash(row, sign) {
	row.classList.remove('rose', 'fell');
	if (!sign) return;
	void row.offsetWidth; // so that the animation starts again
	row.classList.add(sign > 0 ? 'rose' : 'fell');
}

function spark(line, prices, width, height) {
	const recent = prices.slice(-60), low = Math.min(...recent), range = Math.max(...recent) - low || 1;
	line.setAttribute('points', recent.length < 2 ? '' : recent.map((price, i) => `${((width * i) / (recent.length - 1)).toFixed(1)},${(height - 2 - ((height - 4) * (price - low)) / range).toFixed(1)}`).join(' '));
}

$('find').addEventListener('input', ({ target }) => {
	const words = target.value.trim().toLowerCase();
	let any = false;
	for (const row of rows.values()) any = !(row.hidden = !row.words.includes(words)) || any;
	$('none').hidden = any;
});

// ---- the best and the worst

quotes
	.select(({ quotes: all }) => {
		const sorted = all.toSorted((a, b) => b.change / b.open - a.change / a.open);
		return [sorted[0], sorted.at(-1)].map(({ symbol, change, open }) => ({ symbol, share: change / open }));
	})
	.subscribe((movers) => {
		$('movers').replaceChildren(...movers.map(({ symbol, share }, i) => {
			const mover = Object.assign(document.createElement('button'), { type: 'button', className: i ? 'down' : 'up', textContent: `${symbol} ${percent.format(share)}` });
			mover.addEventListener('click', () => choose(symbol));
			return mover;
		}));
	});

// ---- one company

function choose(symbol) {
	stop();
	chosen = symbol;
	for (const [each, row] of rows) row.querySelector('button').setAttribute('aria-pressed', each === symbol);
	let told = 0;
	// Told of this company's changes only.
	stop = quotes.select(({ quotes: all }) => all.find((quote) => quote.symbol === symbol)).subscribe((quote) => {
		$('told').textContent = integer.format(told++);
		if (quote) detail(quote);
	});
}

function detail(quote) {
	for (const field of ['symbol', 'sector', 'name', 'exchange']) $(field).textContent = quote[field];
	$('price').textContent = money.format(quote.price);
	$('change').textContent = `${signed.format(quote.change)} (${percent.format(quote.change / quote.open)})`;
	$('open').textContent = money.format(quote.open);
	$('volume').textContent = integer.format(quote.volume);
	document.querySelector('.detail').dataset.trend = trend(quote);
	chart(quote);
}

function chart({ symbol, open }) {
	const prices = history.get(symbol) ?? [];
	if (!prices.length) return;
	const low = Math.min(...prices), high = Math.max(...prices), room = (high - low || open / 1000) * 0.15, range = high - low + 2 * room || 1;
	const y = (price) => 240 - (240 * (price - low + room)) / range, x = (i) => (prices.length < 2 ? 600 * i : (600 * i) / (prices.length - 1));
	const points = (prices.length < 2 ? [prices[0], prices[0]] : prices).map((price, i) => `${x(i).toFixed(1)} ${y(price).toFixed(1)}`);
	$('line').setAttribute('d', `M${points.join('L')}`);
	$('area').setAttribute('d', `M0 240L${points.join('L')}L600 240Z`);
	for (const end of ['y1', 'y2']) $('open-line').setAttribute(end, y(open));
	$('low').textContent = `low ${money.format(low)}`;
	$('high').textContent = `high ${money.format(high)}`;
	$('span').textContent = `${integer.format(prices.length)} prices`;
}

// ---- all of it

const words = { connecting: 'Connecting', waiting: 'Waiting', live: 'Live', stale: 'Stale', offline: 'Offline', paused: 'Paused', failed: 'Not allowed', closed: 'Closed' };
quotes.onStatus(({ state, reason }) => {
	$('state').dataset.state = state;
	$('state').querySelector('strong').textContent = words[state] + (reason ? ` (${reason})` : '');
});
quotes.subscribe((doc) => {
	draw(doc);
	if (chosen) chart(doc.quotes.find(({ symbol }) => symbol === chosen));
	else choose(doc.quotes[0].symbol);
});
