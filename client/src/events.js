/**
 * Parses an event stream (HTML standard, section 9.2.6). Returns a function that takes the decoded text as it comes.
 * on._event(type, data, id) is called for each event with data; id is the last one that the stream named.
 * on._id is called for an id without data, on._comment(text) and on._retry(milliseconds) as they come.
 */
export function eventParser(on) {
  // The unfinished line is only ever added to: searching it again with each chunk would cost the square of its length.
  let part = '', skipLF = false, type = '', lines = [], id = '', named = false;

  const take = (line) => {
    if (line === '') {
      const text = lines.join('\n'), name = type || 'message';
      if (lines.length) on._event(name, text, id);
      else if (named) on._id();
      type = '';
      lines = [];
      named = false;
    }
    const [, field, value] = /^([^:]*):? ?([^]*)/.exec(line);
    if (line[0] === ':') on._comment(value);
    else if (field === 'data') lines.push(value);
    else if (field === 'event') type = value;
    else if (field === 'id' && !value.includes('\0')) {
      id = value;
      named = true;
    } else if (field === 'retry' && /^\d+$/.test(value)) on._retry(+value);
  };

  return (chunk) => {
    if (skipLF && chunk[0] === '\n') chunk = chunk.slice(1);
    if (!chunk) return;
    skipLF = chunk.endsWith('\r');
    const ends = chunk.split(/\r\n?|\n/), rest = ends.pop();
    for (const line of ends) {
      take(part + line);
      part = '';
    }
    part += rest;
  };
}
