// Builds dist/ from src/: node build.js [folder]. esbuild bundles, terser makes the result smaller still.
import { build } from 'esbuild';
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync } from 'node:zlib';
import { minify } from 'terser';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const bundles = [
  { entryPoints: { client: 'src/index.js', numbers: 'src/numbers.js' }, format: 'esm', external: ['./numbers.js'] },
  { entryPoints: { worker: 'src/worker.js', shim: 'src/shim-script.js' }, format: 'iife' },
  // The bindings share the client that the page has loaded.
  { entryPoints: { react: 'src/react.js', vue: 'src/vue.js', solid: 'src/solid.js', element: 'src/element.js', 'shim-module': 'src/shim-module.js' }, format: 'esm', external: ['./client.js', 'react', 'vue', 'solid-js'] },
];

export async function buildAll(folder) {
  mkdirSync(folder, { recursive: true });
  for (const bundle of bundles) {
    // Names that begin with an underscore are ours alone.
    const { outputFiles } = await build({ ...bundle, bundle: true, write: false, minify: true, mangleProps: /^_[a-z]/, target: 'es2022', legalComments: 'none', charset: 'utf8', outdir: folder, absWorkingDir: here('.') });
    for (const { path, text } of outputFiles) {
      const { code } = await minify(text, { module: bundle.format === 'esm', ecma: 2020, compress: { passes: 5, unsafe_arrows: true, pure_getters: true } });
      writeFileSync(path, `${code}\n`);
      writeFileSync(`${path}.br`, brotliCompressSync(`${code}\n`)); // at the highest quality
    }
  }
  for (const file of readdirSync(here('types'))) copyFileSync(here(`types/${file}`), `${folder}/${file}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildAll(process.argv[2] ?? here('dist'));
