// What runs in Node, Deno and Bun: a program that follows a document until a
// version, by the file that pages load. It says what it sees in lines of JSON.
import { live } from "../../client/dist/client.js";

const [url, last] = process.argv.slice(2);
const say = (seen) => console.log(JSON.stringify(seen));

const quotes = live(url);
quotes.onStatus(({ state }) => say({ state }));
for await (const document of quotes) {
	const { snapshots, patches, resyncs } = quotes.stats;
	say({ document, stats: { snapshots, patches, resyncs } });
	if (document.version === Number(last)) break;
}
quotes.close();

// Numbers as they are written come by another file.
const exact = live(url, { numbers: "text" });
say({ exact: (await exact.ready).version });
exact.close();
// Nothing is left that keeps the program: it ends by itself.
