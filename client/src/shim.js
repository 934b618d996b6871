// Answers a page's own polls of named URLs, by fetch and XMLHttpRequest, from one live stream each. Anything else, and
// everything while the stream is not live, goes to the network.

// Fields that change nothing about which document is meant.
const neutral = ['accept', 'cache-control', 'content-type', 'if-modified-since', 'if-none-match', 'pragma', 'x-requested-with'];

// Numbers that JSON.parse would round stay as they were written, where the browser can do that.
const numbers = JSON.rawJSON && ((source) => (`${+source}` === source ? +source : JSON.rawJSON(source)));
if (numbers) numbers.shared = true;

// Fields that make another answer of it.
const conditions = ['range', 'if-match', 'if-unmodified-since'];

const mostStreams = 4; // for one URL: a page that gives each request a header of its own would open a stream for each

/** urls: pairs of a URL and the query parameters to ignore. load: returns a promise of live(). */
export function shim(urls, load, { idle = 120000 } = {}) {
  // Pages put others in their place: MooTools has an Event of its own.
  const { fetch: realFetch, Request, Event, ProgressEvent } = globalThis, X = XMLHttpRequest.prototype, { open, send, setRequestHeader, abort, overrideMimeType } = X;
  const network = (...request) => realFetch.apply(globalThis, request);
  network.shared = true; // between tabs, that is
  const stats = { answered: 0, notModified: 0, passed: 0 };
  const entries = new Map(); // by URL and request headers

  const strip = (address, ignored) => {
    const url = new URL(address, document.baseURI);
    url.hash = '';
    if (ignored.includes('*')) url.search = '';
    for (const name of ignored) url.searchParams.delete(name);
    // Deleting writes the query anew, in another spelling perhaps; so does this where there is nothing to delete.
    if (url.search) url.search = url.searchParams;
    return url.href;
  };
  const named = urls.map(([url, ignored]) => [strip(url, ignored), ignored]);
  const find = (address) => {
    try {
      return named.find(([href, ignored]) => strip(address, ignored) === href)?.[0];
    } catch {
      // no URL: the browser says so itself
    }
  };

  // The stream that a request could be answered from, if it is live.
  const lookUp = (href, headers, credentials) => {
    const accept = headers.get('accept');
    if (!href || conditions.some((name) => headers.has(name)) || (accept && !/json|\*\/\*/.test(accept))) return;
    const own = [...headers].filter(([name]) => !neutral.includes(name)), key = JSON.stringify([href, own, credentials]);
    let entry = entries.get(key);
    if (!entry && [...entries.values()].filter((other) => other.href === href).length < mostStreams) {
      entry = { href, etag: '', text: '' };
      entries.set(key, entry);
      entry.opened = load().then((live) => {
        if (entries.get(key) !== entry) return;
        entry.live = live(href, { headers: own, credentials, fetch: network, numbers, share: false });
        entry.off = entry.live.subscribe(() => {});
      }, () => {}); // blocked, or no network
    }
    if (entry) entry.used = Date.now();
    const live = entry?.live;
    if (live?.status.state !== 'live' || !live.id) {
      stats.passed++;
      return;
    }
    const etag = `"${live.id}"`;
    if (entry.etag !== etag) {
      entry.etag = etag;
      entry.text = JSON.stringify(live.data); // once for each version
      entry.size = new TextEncoder().encode(entry.text).length;
    }
    stats.answered++;
    const known = headers.get('if-none-match')?.split(',').some((tag) => tag.trim().replace(/^W\/|-gzip(?="$)/g, '') === etag);
    if (known) stats.notModified++;
    const fields = { 'cache-control': 'no-cache', 'content-length': `${entry.size}`, 'content-type': 'application/json', date: new Date().toUTCString(), etag };
    if (known) {
      delete fields['content-length'];
      delete fields['content-type'];
    }
    return { status: known ? 304 : 200, statusText: known ? 'Not Modified' : 'OK', text: known ? '' : entry.text, size: known ? 0 : entry.size, fields };
  };
  const withoutHash = (address) => {
    const url = new URL(address, document.baseURI);
    url.hash = '';
    return url.href;
  };

  // ---- fetch

  const dress = (response, url) => {
    for (const [name, value] of Object.entries({ url, type: 'basic', clone: () => dress(Response.prototype.clone.call(response), url) })) Object.defineProperty(response, name, { value });
    return response;
  };
  const plain = ({ method, mode, credentials, integrity, cache, signal }) =>
    method === 'GET' && mode !== 'no-cors' && credentials !== 'omit' && !integrity && cache !== 'only-if-cached' && cache !== 'force-cache' && !signal.aborted;
  function patchedFetch(input, init) {
    let request, answer;
    try {
      const { url, method } = input instanceof Request ? input : { url: input, method: 'GET' };
      const href = `${init?.method ?? method}`.toUpperCase() === 'GET' && find(url);
      // Of a GET only: it would take the body from another.
      request = href && new Request(input, init);
      answer = request && plain(request) && lookUp(href, request.headers, request.credentials);
    } catch {
      // no request: the browser says so itself
    }
    if (!answer) return network(input, init);
    const { status, statusText, text, fields } = answer;
    return new Promise((resolve, reject) => later(() => {
      if (request.signal.aborted) reject(request.signal.reason);
      else resolve(dress(new Response(status === 304 ? null : text, { status, statusText, headers: fields }), withoutHash(request.url)));
    }));
  }

  // ---- XMLHttpRequest

  const requests = new WeakMap(); // to what is known of each
  const shown = ['readyState', 'status', 'statusText', 'responseURL', 'responseText', 'responseXML', 'response', 'getResponseHeader', 'getAllResponseHeaders'];
  const undress = (xhr) => shown.forEach((name) => delete xhr[name]);

  X.open = function (method, url, async, user, password) {
    undress(this);
    const old = requests.get(this);
    if (old) old.over = true;
    requests.set(this, { href: `${method}`.toUpperCase() === 'GET' && (async || arguments.length < 3) && user == null && password == null && find(url), url, headers: new Headers() });
    return open.apply(this, arguments);
  };
  X.setRequestHeader = function (name, value) {
    setRequestHeader.apply(this, arguments);
    requests.get(this)?.headers.append(name, value);
  };
  X.overrideMimeType = function () {
    overrideMimeType.apply(this, arguments);
    const known = requests.get(this);
    if (known) known.href = undefined;
  };
  X.abort = function () {
    const known = requests.get(this);
    if (!known?.answer) {
      undress(this);
      return abort.apply(this, arguments);
    }
    known.answer = { status: 0, statusText: '', text: '', fields: {} };
    known.value = undefined;
    if (!known.over) {
      known.over = true;
      known.state = 4;
      for (const event of ['readystatechange', 'abort', 'loadend']) fire(this, event);
    }
    known.state = 0;
  };
  X.send = function () {
    const known = requests.get(this);
    if (known?.answer) throw new DOMException('The request was sent before.', 'InvalidStateError');
    const answer = known?.href && this.responseType !== 'document' && this.readyState === 1 && lookUp(known.href, known.headers, this.withCredentials ? 'include' : 'same-origin');
    if (!answer) return send.apply(this, arguments);
    known.answer = answer;
    known.state = 1;
    const url = withoutHash(known.url);
    const done = () => known.state === 4 && known.answer.status, begun = () => known.state > 1;
    const value = () => {
      const type = this.responseType; // a page may set it after send()
      if (type === '' || type === 'text') return known.state > 2 ? known.answer.text : '';
      if (!done()) return null;
      const { text } = known.answer;
      if (type === 'json') {
        try {
          return (known.value ??= JSON.parse(text));
        } catch {
          return null; // a 304 has no body
        }
      }
      return (known.value ??= type === 'blob' ? new Blob([text], { type: 'application/json' }) : new TextEncoder().encode(text).buffer);
    };
    const only = (...types) => {
      if (!types.includes(this.responseType)) throw new DOMException(`The object's 'responseType' is '${this.responseType}'.`, 'InvalidStateError');
    };
    const header = (name) => (begun() ? known.answer.fields[`${name}`.toLowerCase()] ?? null : null);
    const all = () => (begun() ? Object.entries(known.answer.fields).map(([name, text]) => `${name}: ${text}\r\n`).join('') : '');
    const getters = {
      readyState: () => known.state, status: () => (begun() ? known.answer.status : 0), statusText: () => (begun() ? known.answer.statusText : ''),
      responseURL: () => (begun() && known.answer.status ? url : ''), response: value, getResponseHeader: () => header, getAllResponseHeaders: () => all,
      responseText: () => (only('', 'text'), value()), responseXML: () => (only('', 'document'), null),
    };
    for (const name of shown) Object.defineProperty(this, name, { configurable: true, enumerable: true, get: getters[name] });
    fire(this, 'loadstart', 0);
    later(() => {
      const { size, text } = known.answer;
      for (const [state, ...events] of text ? [[2, 'readystatechange'], [3, 'readystatechange', 'progress'], [4, 'readystatechange', 'load', 'loadend']] : [[2, 'readystatechange'], [4, 'readystatechange', 'load', 'loadend']]) {
        if (known.over) return;
        known.state = state;
        for (const event of events) {
          fire(this, event, event === 'readystatechange' ? undefined : size);
          if (known.over) return;
        }
      }
      known.over = true;
    });
  };
  const fire = (xhr, type, size) => xhr.dispatchEvent(type === 'readystatechange' ? new Event(type) : new ProgressEvent(type, { lengthComputable: !!size, loaded: size || 0, total: size || 0 }));

  // A task: as an answer from the network, but never throttled as a timer is.
  const tasks = [], channel = new MessageChannel();
  channel.port1.onmessage = () => tasks.shift()();
  const later = (run) => {
    tasks.push(run);
    channel.port2.postMessage(0);
  };

  const drop = (key, entry) => {
    entries.delete(key);
    entry.live?.close();
  };
  // What was live before a pause is not after it, and in the meantime another tab may have changed the login, which cannot
  // be seen here: the next stream has the cookies of then.
  const dropAll = () => entries.forEach((entry, key) => drop(key, entry));
  const look = () => document.hidden || dropAll();
  const heard = [[globalThis, 'pagehide', dropAll], [document, 'freeze', dropAll], [document, 'visibilitychange', look]];
  for (const [target, type, run] of heard) target.addEventListener(type, run);
  const timer = setInterval(() => {
    for (const [key, entry] of entries) if (Date.now() - entry.used > idle) drop(key, entry);
  }, 10000);
  globalThis.fetch = patchedFetch;
  return {
    stats,
    /** Gives the page back its own fetch and XMLHttpRequest. */
    remove() {
      clearInterval(timer);
      for (const [target, type, run] of heard) target.removeEventListener(type, run);
      dropAll();
      if (globalThis.fetch === patchedFetch) globalThis.fetch = realFetch;
      Object.assign(X, { open, send, setRequestHeader, abort, overrideMimeType });
    },
  };
}
