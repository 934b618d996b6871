import { live } from '/poll-sse/client.js';

const quotes = live('/api/quotes', { interval: 1000 }); // that often a page would poll
const counts = live('/api/counts');

// ---- what it costs

let began; // the first count of the server
let would = 0; // requests that polling would have made since
let last;

function showCounts({ polls, streams }) {
	const now = Date.now();
	// All who have a stream would have asked once in each second; the first second has begun.
	would += began === undefined ? streams : (streams * (now - last)) / 1000;
	began ??= polls;
	last = now;
	const asked = polls - began;
	$('polls').textContent = $('asked').textContent = integer.format(asked);
	$('would').textContent = integer.format(Math.round(would));
	$('viewers').textContent = streams === 1 ? '1 browser' : `${integer.format(streams)} browsers`;
	bars(['asked', asked], ['would', would]);
}

function count() {
	const { events, bytes, pollingBytes, since } = quotes.stats;
	$('events').textContent = integer.format(events);
	$('received').textContent = size(bytes);
	if (!pollingBytes) return;
	$('polling').textContent = size(pollingBytes);
	$('elapsed').textContent = duration(Math.floor((Date.now() - since) / 1000));
	bars(['received', bytes], ['polling', pollingBytes]);
	const share = bytes / pollingBytes;
	if (share >= 1) return;
	$('saved').textContent = `${(100 * (1 - share)).toFixed(share < 0.1 ? 1 : 0)}%`;
	$('saved-words').textContent = quotes.status.transport === 'tab' ? 'fewer bytes: another tab of this browser receives for this one' : 'fewer bytes';
}

function bars(...pairs) {
	const most = Math.max(1, ...pairs.map(([, value]) => value));
	for (const [id, value] of pairs) $(`${id}-bar`).style.inlineSize = `${(100 * value) / most}%`;
}

function showChange(change) {
	if (!change) return;
	const newest = change.changes?.at(-1) ?? change;
	const text = newest.type === 'patch' ? newest.patch.map((operation) => JSON.stringify(operation)).join('\n') : 'snapshot: the whole document';
	$('wire').textContent = text.length > 1500 ? `${text.slice(0, 1500)} …` : text;
}

// ---- state of the source

const words = {
	connecting: 'Connecting',
	waiting: 'Waiting for the first document',
	live: 'Live',
	stale: 'Stale',
	offline: 'Offline',
	paused: 'Paused',
	failed: 'Not allowed',
	closed: 'Closed',
};

function showState({ state, since, reason }) {
	const box = $('state');
	box.dataset.state = state;
	box.querySelector('strong').textContent = words[state];
	box.querySelector('time').textContent = since.toLocaleTimeString();
	box.querySelector('time').dateTime = since.toISOString();
	box.querySelector('em').textContent = reason ? `(${reason})` : '';
}

// ---- the table

const rows = new Map();

function draw(doc) {
	const body = $('quotes');
	const seen = new Set();
	doc.quotes.forEach((quote, position) => {
		seen.add(quote.symbol);
		let row = rows.get(quote.symbol);
		if (!row) {
			row = $('row').content.firstElementChild.cloneNode(true);
			row.prices = [];
			rows.set(quote.symbol, row);
		}
		if (body.children[position] !== row) body.insertBefore(row, body.children[position] ?? null);
		drawRow(row, quote);
	});
	for (const [symbol, row] of rows) {
		if (seen.has(symbol)) continue;
		row.remove();
		rows.delete(symbol);
	}
	document.body.classList.add('ready');
}

function drawRow(row, quote) {
	const before = row.quote;
	if (before && Object.keys(quote).every((k) => before[k] === quote[k])) return;
	row.quote = quote;
	const set = (name, text) => {
		const cell = row.querySelector(`[data-is=${name}]`);
		if (cell.textContent !== text) cell.textContent = text;
	};
	set('symbol', quote.symbol);
	set('name', quote.name);
	set('sector', quote.sector);
	set('price', money.format(quote.price));
	set('change', signed.format(quote.change));
	set('percent', percent.format(quote.change / quote.open));
	set('volume', integer.format(quote.volume));
	row.dataset.trend = Math.sign(quote.change);

	row.prices = [...row.prices.slice(-39), quote.price];
	spark(row.querySelector('polyline'), row.prices);

	if (before) flash(row, quote.price > before.price ? 'up' : quote.price < before.price ? 'down' : 'same');
}

function flash(row, way) {
	row.classList.remove('up', 'down', 'same');
	void row.offsetWidth; // so that the animation starts again
	row.classList.add(way);
}

// spark draws the prices seen so far, from left to right.
function spark(line, prices) {
	const low = Math.min(...prices);
	const range = Math.max(...prices) - low || 1;
	const points = prices.map((p, i) => `${1 + 2 * i},${(20 - (18 * (p - low)) / range - 1).toFixed(1)}`);
	line.setAttribute('points', prices.length > 1 ? points.join(' ') : '');
}

// ---- formats

const money = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const signed = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: 'exceptZero' });
const percent = new Intl.NumberFormat('en', { style: 'percent', minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: 'exceptZero' });
const integer = new Intl.NumberFormat('en');

function size(n) {
	if (n < 1000) return `${n} B`;
	if (n < 1e6) return `${(n / 1e3).toFixed(1)} kB`;
	return `${(n / 1e6).toFixed(2)} MB`;
}

function duration(seconds) {
	const m = Math.floor(seconds / 60);
	return m ? `${m} min ${seconds % 60} s` : `${seconds} s`;
}

function $(id) {
	return document.getElementById(id);
}

quotes.subscribe((doc, change) => {
	draw(doc);
	showChange(change);
	count();
});
quotes.onStatus(showState);
counts.subscribe(showCounts);
setInterval(count, 1000);
