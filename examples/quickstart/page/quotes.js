import { apply } from './patch.js';

// The document as the server has it, kept up to date by the event stream.
let doc;

function connect() {
	const stream = new EventSource('/api/quotes');

	stream.addEventListener('snapshot', (event) => {
		doc = JSON.parse(event.data);
		snapshotBytes = bytes(event.data);
		started ??= Date.now();
		received(event);
		draw();
	});

	stream.addEventListener('patch', (event) => {
		try {
			doc = apply(doc, JSON.parse(event.data));
		} catch (err) {
			// A new EventSource has no last event id, so it begins with a snapshot.
			console.error(err);
			stream.close();
			setTimeout(connect, 1000);
			return;
		}
		patches++;
		received(event);
		draw();
	});

	stream.addEventListener('status', (event) => {
		received(event);
		showState(JSON.parse(event.data));
	});

	// EventSource reconnects by itself, and says with Last-Event-ID where it was.
	stream.addEventListener('error', () => {
		if (stream.readyState === EventSource.CLOSED) showState({ state: 'closed' });
		else if (state !== 'refused' && state !== 'denied') showState({ state: 'reconnecting' });
	});
}

// ---- counters

let events = 0;
let patches = 0;
let receivedBytes = 0;
let snapshotBytes = 0;
let started;

const bytes = (text) => new TextEncoder().encode(text).length;

function received(event) {
	events++;
	let frame = `event: ${event.type}\n`;
	// lastEventId is that of the last event that had one; a status event has none.
	if (event.type !== 'status') frame += `id: ${event.lastEventId}\n`;
	frame += `data: ${event.data}`;
	receivedBytes += bytes(frame) + 2;
	$('wire').textContent = frame.length > 1500 ? frame.slice(0, 1500) + ' …' : frame;
	count();
}

// count compares what came with what asking once a second would have brought:
// the first answer, and one more for each second since. Only bodies and event
// frames are counted; polling also pays for the headers of every request.
function count() {
	$('events').textContent = integer.format(events);
	$('patches').textContent = integer.format(patches);
	$('received').textContent = size(receivedBytes);
	if (!started) return;
	const seconds = Math.floor((Date.now() - started) / 1000);
	const polling = snapshotBytes * (seconds + 1);
	const share = receivedBytes / polling;
	$('polling').textContent = size(polling);
	$('elapsed').textContent = duration(seconds);
	$('saved').textContent = share < 1 ? `${(100 * (1 - share)).toFixed(share < 0.1 ? 1 : 0)}%` : '0%';
	$('received-bar').style.inlineSize = `${Math.min(100, 100 * share)}%`;
}

// ---- state of the source

let state = 'connecting';

const words = {
	connecting: 'Connecting',
	waiting: 'Waiting for the first document',
	live: 'Live',
	stale: 'Stale',
	denied: 'Denied',
	refused: 'Server is full, trying later',
	reconnecting: 'Reconnecting',
	closed: 'Closed by the server',
};

function showState({ state: next, since, reason }) {
	state = next;
	const box = $('state');
	box.dataset.state = next;
	box.querySelector('strong').textContent = words[next] ?? next;
	const at = since === undefined ? new Date() : new Date(since);
	box.querySelector('time').textContent = at.toLocaleTimeString();
	box.querySelector('time').dateTime = at.toISOString();
	box.querySelector('em').textContent = reason ? `(${reason})` : '';
}

// ---- the table

const rows = new Map();

function draw() {
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

setInterval(count, 1000);
connect();
