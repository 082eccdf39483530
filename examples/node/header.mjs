// Declares to koffi what graft.h declares to C: the header is read, not written down a second time.
import { readFileSync } from 'node:fs';
import koffi from 'koffi';

// Everything in the header: { functions, constants, sizeof }. Functions throw what koffi throws for arguments of a wrong kind.
export function load(header, library) {
    // koffi runs a function on a stack of its own, by default of 128 KiB where the call is asynchronous. Generating takes less than half of
    // that; deeply nested JSON or templates may take more.
    koffi.config({ ...koffi.config(), sync_stack_size: 2 << 20, async_stack_size: 2 << 20, resident_async_pools: 2 });
    const lib = koffi.load(library);
    const source = readFileSync(header, 'utf8').replace(/\/\*[^]*?\*\//g, '').replace(/\/\/.*/g, '');
    const constants = {};
    for (const [, name, value] of source.matchAll(/^#define (GRAFT_\w+) (-?\d+)$/gm)) constants[name] = Number(value);
    const text = source.replace(/^#.*/gm, '').replace('extern "C" {', '');

    for (const [, type, name] of text.matchAll(/typedef (u?int\d+_t) (\w+);/g)) koffi.alias(name, type);
    for (const [, name] of text.matchAll(/typedef struct (\w+) \1;/g)) koffi.opaque(name);
    const structs = new Set();
    const declarations = /typedef struct \{([^}]*)\} (\w+);|typedef (\w+) \(\*(\w+)\)\(([^)]*)\);/g;
    for (const [, fields, struct, result, callback, parameters] of text.matchAll(declarations)) {
        if (struct) {
            const members = [...fields.matchAll(/(\S[^;]*?)(\w+)(?:\[(\d+)\])?;/g)];
            koffi.struct(struct, Object.fromEntries(members.map(([, type, name, n]) => [name, n ? koffi.array(type.trim(), +n) : type.trim()])));
            structs.add(struct);
        } else {
            // What a callback is given with a length has no NUL at its end: an address, not a string of koffi's.
            const own = parameters.replace(/const char \*/g, 'const void *');
            koffi.pointer(callback, koffi.proto(`${result} ${callback}_function(${own})`));
        }
    }

    const functions = {};
    for (const [, result, name, parameters] of text.matchAll(/^(\w[\w *]*?)(graft_\w+)\(([^;]*)\);/gm)) {
        const own = parameters.split(',').map((p) => direction(p.trim().replace(/\s+/g, ' ').replace(/\*const \*/, '**'), structs));
        functions[name] = lib.func(`${result.trim()} ${name}(${own.join(', ')})`);
    }
    return { functions, constants, sizeof: (struct) => koffi.sizeof(struct) };
}

// What C does not say and koffi must know: which pointers are written to.
function direction(parameter, structs) {
    const [, constant, type, stars] = parameter.match(/^(const )?(\w+) ?(\**)/);
    if (stars === '**' && parameter !== 'graft_error **error' && !constant && type === 'char') return parameter.replace('char **', '_Out_ void **');
    if (stars === '**' && constant && type.startsWith('graft_')) return parameter; // a list of handles
    if (stars === '**') return `_Out_ ${parameter.replace(/(const )?(char|float|u?int\d+_t) \*\*/, 'void **')}`;
    if (stars === '*' && !constant && structs.has(type)) return `_Inout_ ${parameter}`;
    if (stars === '*' && !constant && /^(size_t|float|double|u?int\d+_t)$/.test(type)) return `_Out_ ${parameter}`;
    return parameter;
}

// A copy of `length` bytes at an address.
export const bytesAt = (address, length) => (length === 0 ? new ArrayBuffer(0) : koffi.view(address, length).slice(0));

// The text that they are.
export const textAt = (address, length) => Buffer.from(bytesAt(address, length)).toString();
