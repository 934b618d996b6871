// Loaded by those who ask for numbers or a reviver.
import { isObject, parsePointer, set } from './apply.js';

// JSON.parse source text access: Chrome 114, Firefox 135, Safari 18.4, Node 21.
let hasSource = false;
JSON.parse('1', (key, value, context) => (hasSource = !!context?.source));

const conversions = {
  text: (source) => source,
  bigint: (source) => (/^-?\d+$/.test(source) && !Number.isSafeInteger(+source) ? BigInt(source) : +source),
};

// Without source text access each number is quoted first, behind a NUL. A text
// that begins with a NUL gets a second one; member names stay as they are.
const quoteNumbers = (text) =>
  text.replace(/"(?:[^"\\]|\\.)*"(?=\s*(:)?)|-?\d[\d.eE+-]*/g, (token, isName) =>
    token[0] !== '"' ? `"\\u0000${token}"` : !isName && token.startsWith('"\\u0000') ? `"\\u0000${token.slice(1)}` : token);

/** Returns JSON.parse, or a parser that reads numbers as the option says. */
export function numberParser(numbers = 'double', native = hasSource) {
  if (numbers === 'double') return (text) => JSON.parse(text);
  const convert = conversions[numbers] ?? numbers;
  if (native) return (text) => JSON.parse(text, (key, value, { source }) => (typeof value === 'number' ? convert(source) : value));
  return (text) => JSON.parse(quoteNumbers(text), (key, value) =>
    typeof value !== 'string' || value[0] !== '\0' ? value : value[1] === '\0' ? value.slice(1) : convert(value.slice(1)));
}

/** Calls a reviver as JSON.parse does, for a part of a document too. */
function revive(value, key, reviver) {
  const walk = (holder, name) => {
    const member = holder[name];
    if (Array.isArray(member) || isObject(member)) {
      for (const child of Object.keys(member)) {
        const revived = walk(member, child);
        if (revived === undefined) delete member[child];
        else set(member, child, revived);
      }
    }
    return reviver.call(holder, name, member);
  };
  return walk({ [key]: value }, key);
}

/** Returns what reads the data of an event of a kind. */
export function reader({ numbers, reviver }) {
  const parse = numberParser(numbers);
  return (text, kind) => {
    const value = parse(text);
    if (!reviver) return value;
    if (kind !== 'patch') return revive(value, '', reviver);
    for (const operation of value) {
      if ('value' in operation) operation.value = revive(operation.value, parsePointer(operation.path).at(-1), reviver);
    }
    return value;
  };
}
