// Runs a WASI program under Node's own WASI: node scripts/wasi.mjs PROGRAM.wasm ARGUMENT... with the whole file system, as a native
// program has it.
import { readFile } from "node:fs/promises";
import { argv, cwd, env, exit } from "node:process";
import { WASI } from "node:wasi";

const [program, ...args] = argv.slice(2);
const wasi = new WASI({
    version: "preview1",
    args: [program, ...args],
    env,
    preopens: { "/": "/", ".": cwd() },
    returnOnExit: true,
});
const module = await WebAssembly.compile(await readFile(program));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
exit(wasi.start(instance));
