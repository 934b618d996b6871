// RFC 6902: apply(document, patch) returns the document after the patch. The
// old document is left as it was, so a patch that does not fit changes nothing.
export function apply(document, patch) {
	let doc = structuredClone(document);
	for (const op of patch) {
		switch (op.op) {
			case 'add':
			case 'replace':
				doc = put(doc, op.path, structuredClone(op.value), op.op === 'add');
				break;
			case 'remove':
				doc = take(doc, op.path);
				break;
			case 'move': {
				if (op.path.startsWith(op.from + '/')) throw new Error(`cannot move ${op.from} into itself`);
				const value = get(doc, op.from);
				doc = put(take(doc, op.from), op.path, value, true);
				break;
			}
			case 'copy':
				doc = put(doc, op.path, structuredClone(get(doc, op.from)), true);
				break;
			case 'test':
				if (!equal(get(doc, op.path), op.value)) throw new Error(`test failed at ${op.path}`);
				break;
			default:
				throw new Error(`unknown operation ${op.op}`);
		}
	}
	return doc;
}

// tokens splits a JSON Pointer (RFC 6901). "~1" is undone before "~0": "~01" is "~1".
function tokens(pointer) {
	if (pointer === '') return [];
	if (pointer[0] !== '/') throw new Error(`${pointer} is not a JSON Pointer`);
	return pointer.slice(1).split('/').map((t) => t.replaceAll('~1', '/').replaceAll('~0', '~'));
}

// key is what a token means in its parent. In an array it is an index without
// leading zeros; "-" is the place after the last item, where add may insert.
function key(parent, token, inserting = false) {
	if (Array.isArray(parent)) {
		const index = inserting && token === '-' ? parent.length : Number(token);
		const end = inserting ? parent.length : parent.length - 1;
		if ((token === '-' && inserting) || (/^(0|[1-9]\d*)$/.test(token) && index <= end)) return index;
	} else if (parent !== null && typeof parent === 'object') {
		if (inserting || Object.hasOwn(parent, token)) return token;
	}
	throw new Error(`nothing at "${token}"`);
}

function get(doc, pointer) {
	return tokens(pointer).reduce((parent, token) => parent[key(parent, token)], doc);
}

function put(doc, pointer, value, inserting) {
	const path = tokens(pointer);
	if (path.length === 0) return value;
	const last = path.pop();
	const parent = path.reduce((p, token) => p[key(p, token)], doc);
	const k = key(parent, last, inserting);
	if (Array.isArray(parent) && inserting) parent.splice(k, 0, value);
	// Not parent[k] = value: that would not make a member named "__proto__".
	else Object.defineProperty(parent, k, { value, writable: true, enumerable: true, configurable: true });
	return doc;
}

function take(doc, pointer) {
	const path = tokens(pointer);
	if (path.length === 0) return null;
	const last = path.pop();
	const parent = path.reduce((p, token) => p[key(p, token)], doc);
	const k = key(parent, last);
	if (Array.isArray(parent)) parent.splice(k, 1);
	else delete parent[k];
	return doc;
}

function equal(a, b) {
	if (a === null || b === null || typeof a !== 'object' || typeof b !== 'object') return a === b;
	if (Array.isArray(a) !== Array.isArray(b)) return false;
	const keys = Object.keys(a);
	return keys.length === Object.keys(b).length && keys.every((k) => Object.hasOwn(b, k) && equal(a[k], b[k]));
}
