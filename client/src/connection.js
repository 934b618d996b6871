import { LiveError } from './error.js';
import { eventParser } from './events.js';

const stalled = 4000; // without a byte before the document is complete
const compared = 2000; // that the stream gets to complete after a plain GET has brought the document
const answerTime = 15000; // for a plain GET
const holdTime = 30000; // that a long poll asks for
const returnToStream = 600000;

const after = (delay) => new Date(Date.now() + delay);

/**
 * One document's connection to the server: a stream, or long polls or polls if
 * the stream is buffered on its way. core takes what comes.
 */
export function connection(url, o, core) {
  const { transport = 'auto' } = o, auto = transport === 'auto';
  const kinds = {};
  for (const kind of ['snapshot', 'patch', 'merge', 'status']) kinds[o.events?.[kind] ?? kind] = kind;
  let mode = auto ? 'stream' : transport, run, endPause, retry, heartbeat = 15000;
  let tries = 0, misfits = 0, behind = 0, last = 0, fallenAt = 0, complete;

  const problem = (kind, more) => new LiveError(kind, url, more);

  // Does work that ends with outer, or when it says so itself by a timer: work(signal, within, end).
  async function guard(outer, work) {
    const own = new AbortController(), { signal } = own, end = (error) => own.abort(error);
    let timer;
    outer.addEventListener('abort', () => end(), { signal });
    try {
      return await work(signal, (delay, act) => {
        clearTimeout(timer);
        timer = setTimeout(act, Math.min(delay, 2e9));
      }, end);
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      clearTimeout(timer);
      end();
    }
  }

  async function request(address, fields, signal, type) {
    const headers = new Headers(o.headers?.call ? await o.headers() : o.headers);
    for (const name in fields) headers.set(name, fields[name]);
    const response = await (o.fetch ?? fetch)(address, { headers, credentials: o.credentials, cache: 'no-store', signal });
    const { status } = response, header = (name) => response.headers.get(name) ?? '';
    if (status === 304 || (status === 200 && type.test(header('content-type')))) return [response, header];
    const wait = header('retry-after');
    throw problem(/40[136]/.test(status) ? 'denied' : status === 200 ? 'type' : 'http', {
      status, retryAfter: wait ? Math.max(0, isNaN(wait) ? (Date.parse(wait) - Date.now()) / 1000 : +wait) : undefined,
    });
  }

  // Asks for the document itself, which counts if it still does then. Returns whether that brought news, and whether
  // the server held the request.
  const ask = (outer, hold, counts = () => true) => guard(outer, async (signal, within, end) => {
    const known = core._id, begun = Date.now(), fields = { accept: 'application/json' };
    if (known) fields['if-none-match'] = `"${known}"`;
    hold &&= known && holdTime;
    if (hold) fields.prefer = `wait=${hold / 1000}`;
    within(answerTime + (hold || 0), () => end(problem('silent')));
    const [response, header] = await request(url, fields, signal, /json/), text = response.status === 200 && (await response.text());
    // The gzip form has a tag of its own for the same version.
    const id = /"(.{22}|.*)(-gzip)?"/.exec(header('etag'))?.[1];
    const news = text !== false && (!id || id !== core._id), reason = /detail=(\w+)/.exec(header('cache-status'))?.[1];
    if (counts()) core._batch(() => {
      if (/private/.test(header('cache-control'))) core._private();
      if (news) core._take('snapshot', text, id);
      core._set({ state: reason ? 'stale' : 'live', reason, validated: after(-1000 * header('age')) });
    });
    if (text) core._stats.bytes += new TextEncoder().encode(text).length;
    return [news, known ? header('preference-applied') && (news || Date.now() - begun > 900) : id];
  });

  const stream = (outer) => guard(outer, async (signal, within, end) => {
    const address = new URL(url);
    let base = core._id, round = 0;
    complete = false;
    // A header would cost a preflight on another origin.
    if (base) address.searchParams.set('last_event_id', base);

    const silent = () => end(problem('silent'));
    // A proxy that holds the stream back lets a plain answer through; a network that is down lets nothing through.
    const compare = () => {
      const own = round, counts = () => own === round;
      within(answerTime + 1000, silent);
      ask(signal, 0, counts).then(() => counts() && within(compared, () => end(problem('buffered'))), (error) => counts() && end(error));
    };
    const watch = () => {
      round++;
      if (complete) within(o.silence ?? 2.5 * heartbeat, silent);
      else within(stalled, compare);
    };
    const completed = () => {
      complete = true;
      tries = 0;
    };
    const parse = eventParser({
      _event(name, text, id) {
        const kind = kinds[name];
        core._stats.events++;
        if (kind === 'status') {
          const { state, since, validated, reason } = JSON.parse(text);
          if (/denied|refused/.test(state)) throw problem(state, { cause: reason });
          core._set({ state, reason, since: new Date(since), validated: validated && new Date(validated) });
          if (state !== 'live') completed();
        } else if (kind) {
          const changes = kind !== 'snapshot';
          if (changes && (!base || base !== core._id)) throw problem('data');
          core._take(kind, text, id, base);
          base = id;
          if (changes) misfits = behind = 0;
          completed();
        }
      },
      _id: completed,
      _retry: (delay) => (retry = delay),
      _comment(text) {
        if (/^heartbeat [\d.]+$/.test(text)) heartbeat = text.slice(10) * 1000;
        if (text === 'private') core._private();
      },
    });
    watch();
    core._stats.connects++;
    const [{ body }] = await request(address, { accept: 'text/event-stream' }, signal, /^text\/event-stream/), reader = body.getReader(), decoder = new TextDecoder();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      last = Date.now();
      core._stats.bytes += value.length;
      // Told once for each chunk: to a reader that comes late the first one brings many events.
      core._batch(() => {
        core._set({ transport: mode });
        parse(decoder.decode(value, { stream: true }));
      });
      watch();
    }
  });

  const backoff = (n) => Math.max(500, Math.random() * Math.min(30000, 1000 * 2 ** n));

  async function loop(signal) {
    while (!signal.aborted) {
      let delay = 0, error;
      try {
        if (mode === 'stream') {
          await stream(signal);
          delay = retry ?? backoff(2);
        } else {
          const [, held] = await ask(signal, mode === 'long-poll');
          last = Date.now();
          core._set({ transport: held ? mode : 'poll' });
          tries = 0;
          if (!held || mode === 'poll') delay = o.interval ?? 5000;
          if (auto && Date.now() - fallenAt > returnToStream) mode = 'stream';
        }
      } catch (cause) {
        if (signal.aborted) return;
        error = cause instanceof LiveError ? cause : problem('network', { cause });
        const { kind, retryAfter } = error;
        delay = kind === 'refused' && retry ? retry : retryAfter ? retryAfter * 1000 * (1 + Math.random() / 4) : backoff(tries++);
        if (kind === 'data') {
          core._forget();
          delay = misfits++ ? backoff(misfits) : 0;
        }
        if (kind === 'silent' && complete && mode === 'stream') {
          // A stream that only passes its beginning leaves the page behind: told by asking, twice in a row.
          try {
            const [news] = await ask(signal);
            delay = 0;
            if (news && ++behind > 1) error = problem('buffered');
          } catch {
            // the network, then
          }
          if (signal.aborted) return;
        }
        if (auto) {
          if (error.kind === 'buffered') {
            mode = 'long-poll';
            fallenAt = Date.now();
            delay = behind = 0;
          } else if (kind === 'network') mode = 'stream'; // the plain GET fails as well: no proxy's doing
        }
      }
      if (signal.aborted) return;
      // Before it is told: the page may start another.
      if (error?.fatal) {
        stop();
        delay = undefined;
      }
      if (error || mode === 'stream') core._fail(error, delay && after(delay));
      if (signal.aborted) return;
      if (delay) {
        await guard(signal, (own, within) => new Promise((done) => {
          within(delay, (endPause = done));
          own.addEventListener('abort', done);
        }));
      }
    }
  }

  const start = () => {
    if (run) return;
    last = Date.now();
    run = new AbortController();
    loop(run.signal);
  };
  const stop = () => {
    run?.abort();
    run = null;
  };
  return {
    _start: start,
    _stop: stop,
    /** Asks again where a device may have slept or the network has changed. */
    _wake(anew) {
      if (anew) {
        tries = misfits = 0;
        if (auto) mode = 'stream';
      }
      // Sockets die without an error in sleep: nothing heard for a heartbeat means a new stream.
      if (anew > 1 || (run && Date.now() - last > heartbeat + 5000)) {
        stop();
        start();
      } else endPause?.();
    },
  };
}
