import { live } from './client.js';

const $ = (id) => document.getElementById(id);
const element = (name, className, text) => {
	const e = document.createElement(name);
	if (className) e.className = className;
	if (text !== undefined) e.textContent = text;
	return e;
};
const bytes = (n) => {
	let unit = 'B';
	for (const next of ['KiB', 'MiB', 'GiB']) {
		if (n < 1024) break;
		n /= 1024;
		unit = next;
	}
	return `${unit === 'B' ? Math.round(n) : n.toFixed(1)} ${unit}`;
};
const age = (ms) => {
	const s = Math.max(0, ms) / 1000;
	return s < 60 ? `${s.toFixed(s < 10 ? 1 : 0)} s` : s < 3600 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`;
};
const time = (ms) => (ms < 1 ? '< 1 ms' : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

// ---- the document as a tree

const step = 100; // items that are shown at once
const longest = 300; // characters that are shown of a value
const isContainer = (v) => v !== null && typeof v === 'object';
const entries = (v) => (Array.isArray(v) ? v.map((item, i) => [String(i), item]) : Object.entries(v));
const flash = (line) => {
	line.classList.remove('changed');
	void line.offsetWidth; // begins the animation anew
	line.classList.add('changed');
};

// One value of the document. What did not change is the same object in the
// next version, so whole branches are left alone.
class Node {
	constructor(name, value, open) {
		this.li = element('li');
		this.line = element('span', 'line');
		this.li.append(this.line);
		this.name = name;
		this.shown = step;
		this.open = open;
		this.children = new Map();
		this.set(value, true);
	}

	set(value, first) {
		const was = this.value;
		if (!first && Object.is(was, value)) return;
		this.value = value;
		if (first || isContainer(was) !== isContainer(value) || Array.isArray(was) !== Array.isArray(value)) {
			this.list?.remove();
			this.list = undefined;
			this.children.clear();
		}
		this.draw();
		if (isContainer(value)) {
			if (this.list) this.update();
			else if (!first) flash(this.line);
		} else if (!first) flash(this.line);
		if (isContainer(value) && this.open && !this.list) this.unfold();
	}

	draw() {
		const { value, line } = this;
		line.replaceChildren();
		if (isContainer(value)) {
			const fold = element('button', 'fold', this.list || this.open ? '▾' : '▸');
			fold.setAttribute('aria-expanded', String(!!(this.list || this.open)));
			fold.setAttribute('aria-label', this.name === undefined ? 'document' : this.name);
			fold.onclick = () => (this.list ? this.fold() : this.unfold());
			line.append(fold);
		}
		if (this.name !== undefined) line.append(element('span', 'name', this.name), ': ');
		if (!isContainer(value)) {
			const kind = typeof value === 'string' ? 'string' : typeof value === 'number' || typeof value === 'bigint' ? 'number' : 'other';
			const text = typeof value === 'bigint' ? String(value) : JSON.stringify(value);
			line.append(element('span', kind, text.slice(0, longest)));
			if (text.length > longest) line.append(element('span', 'size', `… (${text.length} characters)`));
			return;
		}
		const n = Array.isArray(value) ? value.length : Object.keys(value).length;
		line.append(element('span', 'size', Array.isArray(value) ? `[${n}]` : `{${n}}`));
	}

	fold() {
		this.open = false;
		this.list.remove();
		this.list = undefined;
		this.children.clear();
		this.draw();
	}

	unfold() {
		this.open = true;
		this.list = element('ul');
		this.li.append(this.list);
		this.draw();
		this.update(true);
	}

	update(first) {
		const all = entries(this.value), shown = all.slice(0, this.shown), old = this.children;
		// An item that moved is found by itself, so that it alone does not flash.
		const byValue = new Map();
		for (const node of old.values()) if (isContainer(node.value)) byValue.set(node.value, node);
		const taken = new Set(), next = new Map();
		for (const [name, value] of shown) {
			const same = Array.isArray(this.value) && isContainer(value) && byValue.get(value);
			if (same && !taken.has(same)) {
				taken.add(same);
				next.set(name, same);
			}
		}
		for (const [name, value] of shown) {
			let node = next.get(name);
			if (!node) {
				node = old.get(name);
				if (node && !taken.has(node)) {
					taken.add(node);
					node.set(value);
				} else {
					node = new Node(name, value, false);
					if (!first) flash(node.line);
				}
				next.set(name, node);
			}
			if (node.name !== name) {
				node.name = name;
				node.draw();
			}
		}
		for (const node of old.values()) if (!taken.has(node)) node.li.remove();
		this.children = new Map(shown.map(([name]) => [name, next.get(name)]));
		let at = this.list.firstChild;
		for (const node of this.children.values()) {
			if (node.li === at) at = at.nextSibling;
			else this.list.insertBefore(node.li, at);
		}
		this.more?.remove();
		if (all.length > shown.length) {
			this.more = element('li');
			const button = element('button', 'more', `${all.length - shown.length} more`);
			button.type = 'button';
			button.onclick = () => {
				this.shown += 5 * step;
				this.update(true);
			};
			this.more.append(button);
			this.list.append(this.more);
		}
	}
}

// ---- one document

const kept = 200; // events that are listed
let shownStream; // what is on the page

function show(source) {
	shownStream?.close();
	const stream = { source, doc: live(source.url, { tabs: false, events: source.events, interval: source.interval_ms, numbers: 'bigint' }), events: [], received: 0 };
	shownStream = stream;
	$('tree').replaceChildren();
	$('events').tBodies[0].replaceChildren();
	$('resumed').textContent = $('version').textContent = $('why').textContent = '';
	$('id').value = '';
	$('upstream').replaceChildren();
	$('poll').hidden = !source.poll_now;
	$('poll').textContent = 'Poll now';
	let root;
	const offChange = stream.doc.subscribe((doc, change) => {
		if (root) root.set(doc);
		else {
			const list = element('ul');
			root = new Node(undefined, doc, true);
			list.append(root.li);
			$('tree').replaceChildren(list);
		}
		$('version').textContent = $('id').value = stream.doc.id ?? '';
		const total = stream.doc.stats.bytes;
		for (const one of change?.changes ?? [change]) note(stream, one?.type ?? 'snapshot', describe(one), total);
		cards(stream);
	});
	const offStatus = stream.doc.onStatus((status) => {
		const pill = $('state');
		if (pill.textContent !== status.state) note(stream, 'status', status.reason ? `${status.state}: ${status.reason}` : status.state, stream.doc.stats.bytes);
		pill.textContent = status.state;
		pill.className = `pill ${status.state}`;
		stream.status = status;
		clock();
	});
	stream.close = () => {
		offChange();
		offStatus();
		stream.doc.close();
	};
	document.title = `${source.name} – poll_sse inspector`;
	for (const a of $('names').children) {
		if (a.dataset.name === source.name) a.setAttribute('aria-current', 'page');
		else a.removeAttribute('aria-current');
	}
	cards(stream);
	look();
}

function describe(change) {
	if (!change || change.type === 'snapshot') return 'the whole document';
	if (change.type !== 'patch') return 'a merge patch';
	const first = change.patch[0];
	if (!first) return 'nothing';
	return `${first.op} ${first.path}${change.patch.length > 1 ? ` and ${change.patch.length - 1} more` : ''}`;
}

// The bytes are what the stream has brought since the last event, comments included.
function note(stream, kind, what, total) {
	const size = Math.max(0, total - stream.received);
	stream.received = total;
	const row = element('tr');
	const at = element('td', '', '0 s');
	row.append(at, element('td', '', kind), element('td', 'number', size ? bytes(size) : ''), element('td', '', what));
	stream.events.unshift({ when: Date.now(), at });
	$('events').tBodies[0].prepend(row);
	if (stream.events.length > kept) {
		stream.events.pop();
		$('events').tBodies[0].lastChild.remove();
	}
}

function cards(stream) {
	const s = stream.doc.stats, server = stream.server;
	const list = [
		[bytes(s.bytes), 'received by this page'],
		[s.pollingBytes ? bytes(s.pollingBytes) : '–', `polling every ${time(stream.source.interval_ms)} would have cost`],
		[s.pollingBytes > s.bytes ? `${((1 - s.bytes / s.pollingBytes) * 100).toFixed(1)} %` : '–', 'saved'],
		[`${s.patches} + ${s.snapshots}`, 'changes + snapshots'],
	];
	if (server) list.push([server.latency_ms === undefined ? '–' : time(server.latency_ms), 'the upstream takes (median)'], [String(server.readers), 'readers of this name']);
	$('cards').replaceChildren(...list.map(([value, text]) => {
		const card = element('div', 'card');
		card.append(element('b', '', value), element('span', '', text));
		return card;
	}));
}

function clock() {
	const stream = shownStream;
	if (!stream?.status) return;
	const { reason, since, validated, retryAt, transport } = stream.status;
	$('why').textContent = [
		reason, since && `for ${age(Date.now() - since)}`, validated && `confirmed ${age(Date.now() - validated)} ago`, retryAt && `again in ${age(retryAt - Date.now())}`, transport && transport !== 'stream' && `by ${transport}`,
	].filter(Boolean).join(', ');
	for (const e of stream.events) e.at.textContent = age(Date.now() - e.when);
}

// ---- what the server says of its upstream

async function look() {
	const stream = shownStream;
	try {
		const response = await fetch(`upstream.json?name=${encodeURIComponent(stream.source.name)}`, { cache: 'no-store' });
		if (!response.ok) throw new Error(`${response.status}`);
		stream.server = await response.json();
	} catch {
		stream.server = undefined;
	}
	if (stream !== shownStream) return;
	upstream(stream.server);
	cards(stream);
}

function upstream(server) {
	if (!server?.polls.length) {
		$('upstream').textContent = 'Not polled now.';
		return;
	}
	const bars = element('div', 'bars'), most = Math.max(...server.polls.map((p) => p.took_ms), 1);
	bars.setAttribute('role', 'img');
	bars.setAttribute('aria-label', `Time of the last ${server.polls.length} polls`);
	for (const p of server.polls) {
		const good = ['changed', 'unchanged', 'not_modified'].includes(p.outcome);
		const bar = element('i', good ? (p.outcome === 'changed' ? '' : 'same') : 'bad');
		bar.style.height = `${Math.round((100 * p.took_ms) / most)}%`;
		bar.title = `${new Date(p.at).toLocaleTimeString()}: ${p.outcome}, ${time(p.took_ms)}`;
		bars.append(bar);
	}
	const list = element('dl'), last = server.polls.at(-1);
	for (const [name, value] of [
		['last poll', `${last.outcome}, ${time(last.took_ms)}`],
		['interval', time(server.interval_ms)],
		['state', server.reason ? `${server.state} (${server.reason})` : server.state],
	]) list.append(element('dt', '', name), element('dd', '', value));
	$('upstream').replaceChildren(bars, list);
}

// ---- what a person does

$('reconnect').onclick = () => shownStream?.doc.reconnect();
$('poll').onclick = async () => {
	$('poll').disabled = true;
	try {
		const response = await fetch('poll', { method: 'POST', headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: new URLSearchParams({ name: shownStream.source.name }) });
		$('poll').textContent = response.ok ? 'Polled' : `Refused: ${response.status}`;
	} catch {
		$('poll').textContent = 'No answer';
	}
	setTimeout(() => {
		$('poll').disabled = false;
		$('poll').textContent = 'Poll now';
		look();
	}, 1200);
};

// Reads for two seconds what a page that comes back with an id is sent.
$('resume').onsubmit = async (event) => {
	event.preventDefault();
	const address = new URL(shownStream.source.url, location.href), stop = new AbortController();
	address.searchParams.set('last_event_id', $('id').value);
	$('resumed').textContent = '…';
	let text = '';
	const timer = setTimeout(() => stop.abort(), 2000);
	try {
		const response = await fetch(address, { headers: { accept: 'text/event-stream' }, signal: stop.signal, cache: 'no-store' });
		if (!response.ok) throw new Error(`status ${response.status}`);
		const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
		for (let part; !(part = await reader.read()).done && text.length < 8e6; ) text += part.value;
	} catch (error) {
		if (!stop.signal.aborted) {
			$('resumed').textContent = `No stream: ${error.message}`;
			return;
		}
	} finally {
		clearTimeout(timer);
		stop.abort();
	}
	const kinds = {};
	for (const [, kind] of text.matchAll(/^event: (.*)$/gm)) kinds[kind] = (kinds[kind] ?? 0) + 1;
	const names = shownStream.source.events ?? {};
	const sent = Object.entries(kinds).filter(([kind]) => kind !== (names.status ?? 'status')).map(([kind, n]) => `${n} ${kind}`).join(', ');
	$('resumed').textContent = `Sent in 2 s: ${sent || 'nothing, as the id is the newest'}; ${bytes(text.length)}`;
};

const response = await fetch('names.json', { cache: 'no-store' });
const { names } = await response.json();
$('names').replaceChildren(...names.map((source) => {
	const a = element('a', '', source.name);
	a.href = `#${encodeURIComponent(source.name)}`;
	a.dataset.name = source.name;
	return a;
}));
const pick = () => show(names.find((s) => s.name === decodeURIComponent(location.hash.slice(1))) ?? names[0]);
addEventListener('hashchange', pick);
pick();
setInterval(clock, 500);
setInterval(() => !document.hidden && shownStream && look(), 5000);
