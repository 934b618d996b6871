import { live } from '/poll-sse/client.js';

const chat = live('/messages');
const $ = (id) => document.getElementById(id);

const names = ['Ada', 'Grace', 'Edsger', 'Barbara', 'Niklaus', 'Radia'];
$('from').value = sessionStorage.from ?? names[Math.floor(Math.random() * names.length)];
sessionStorage.from = $('from').value;
$('from').addEventListener('change', () => (sessionStorage.from = $('from').value));

const shown = new Map(); // by id

chat.subscribe(({ messages }) => {
	const log = $('messages'), atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
	for (const { id, from, text, at } of messages) {
		if (shown.has(id)) continue;
		const item = $('message').content.firstElementChild.cloneNode(true), when = new Date(at);
		item.querySelector('b').textContent = from;
		item.querySelector('time').textContent = when.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
		item.querySelector('time').dateTime = at;
		item.querySelector('.what').textContent = text;
		item.classList.toggle('mine', from === $('from').value);
		shown.set(id, item);
		log.append(item);
	}
	// The API keeps the last hundred.
	const ids = new Set(messages.map(({ id }) => id));
	for (const [id, item] of shown) {
		if (ids.has(id)) continue;
		item.remove();
		shown.delete(id);
	}
	if (atEnd) log.scrollTop = log.scrollHeight;
});

const words = { connecting: 'Connecting', waiting: 'Waiting', live: 'Live', stale: 'Stale', offline: 'Offline', paused: 'Paused', failed: 'Not allowed', closed: 'Closed' };
chat.onStatus(({ state }) => {
	$('state').dataset.state = state;
	$('state').querySelector('strong').textContent = words[state];
});

$('form').addEventListener('submit', async (e) => {
	e.preventDefault();
	$('problem').textContent = '';
	try {
		const response = await fetch('/messages', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ from: $('from').value, text: $('text').value }) });
		if (!response.ok) throw new Error(await response.text());
		$('text').value = '';
		$('messages').scrollTop = $('messages').scrollHeight;
	} catch (error) {
		$('problem').textContent = `Not sent: ${error.message}`;
	}
	$('text').focus();
});
