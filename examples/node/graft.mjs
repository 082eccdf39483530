// What an app needs of Graft, in JavaScript: models, adapters, sessions, text as it comes. Everything else of graft.h is called as here.
import { promisify } from 'node:util';
import { bytesAt, load, textAt } from './header.mjs';

const { functions: c, constants, sizeof } = load(process.env.GRAFT_HEADER, process.env.GRAFT_LIBRARY);
if (c.graft_abi_version() !== constants.GRAFT_ABI_VERSION) throw new Error('the library is of another version than the header');

// What went wrong, and where.
export class GraftError extends Error {
    constructor(status, error) {
        super(c.graft_error_message(error) ?? c.graft_status_name(status));
        this.status = c.graft_status_name(status);
        this.file = c.graft_error_file(error);
        this.item = c.graft_error_item(error);
        c.graft_error_free(error);
    }
}

// Calls a function whose last parameter is an error.
function call(f, ...args) {
    const error = [null];
    const status = f(...args, error);
    if (status !== constants.GRAFT_OK) throw new GraftError(status, error[0]);
}

// As `call`, in a thread of koffi's: the event loop goes on.
async function callAside(f, ...args) {
    const error = [null];
    const status = await promisify(f.async)(...args, error);
    if (status !== constants.GRAFT_OK) throw new GraftError(status, error[0]);
}

// A text and its length, as two arguments.
const text = (s) => [s, Buffer.byteLength(s)];

// A struct of options with its defaults, and what differs from them.
function options(name, changes = {}) {
    const struct = { struct_size: sizeof(name) };
    c[`${name}_init`](struct, struct.struct_size);
    return Object.assign(struct, changes);
}

// What a call wrote to its first parameter after these arguments: a handle.
function made(f, ...args) {
    const handle = [null];
    call(f, ...args, handle);
    return handle[0];
}

// An object of the library, freed by `free`, or at the end of a block that says `using`.
class Handle {
    #free;
    constructor(handle, free) {
        this.handle = handle;
        this.#free = free;
    }
    // What was freed is NULL to the library, which refuses it by an error.
    free() {
        this.#free(this.handle);
        this.handle = null;
    }
    [Symbol.dispose ?? Symbol.for('Symbol.dispose')]() {
        this.free();
    }
}

export class Model extends Handle {
    constructor(path) {
        super(made(c.graft_model_open, ...text(path), null), c.graft_model_free);
    }

    get info() {
        const info = { struct_size: sizeof('graft_model_info') };
        call(c.graft_model_get_info, this.handle, info);
        return info;
    }

    tokenize(s, flags = constants.GRAFT_TOKENIZE_BOS_EOS) {
        const [tokens, n] = [[null], [0]];
        call(c.graft_tokenize, this.handle, ...text(s), flags, tokens, n);
        const own = bytesAt(tokens[0], 4 * n[0]);
        c.graft_free(tokens[0]);
        return new Uint32Array(own);
    }

    detokenize(tokens, skipSpecial = true) {
        const [s, n] = [[null], [0]];
        call(c.graft_detokenize, this.handle, tokens, tokens.length, skipSpecial ? 1 : 0, s, n);
        const own = textAt(s[0], n[0]);
        c.graft_free(s[0]);
        return own;
    }
}

export class Adapter extends Handle {
    constructor(model, path) {
        super(made(c.graft_adapter_open, model.handle, ...text(path), null), c.graft_adapter_free);
    }
}

export class Session extends Handle {
    constructor(model, changes) {
        const own = options('graft_session_options', changes);
        super(made(c.graft_session_new, model.handle, own), c.graft_session_free);
    }

    // From the next token on: [[adapter, weight], ...].
    setAdapters(adapters) {
        const handles = adapters.map(([adapter]) => adapter.handle);
        call(c.graft_session_set_adapters, this.handle, handles, new Float32Array(adapters.map(([, weight]) => weight)), handles.length);
    }

    reset() {
        call(c.graft_session_reset, this.handle);
    }

    // Ends the generation that is under way.
    cancel() {
        c.graft_session_cancel(this.handle);
    }

    // Answers messages ({role, content}) or continues a text, and shows the text to `show` as it comes; what `show` throws ends it. Nothing
    // else runs meanwhile: for scripts.
    generate(prompt, changes, show) {
        const own = options('graft_generate_options', changes);
        const report = { struct_size: sizeof('graft_report') };
        let thrown = null;
        // An exception must not cross the library, and koffi would say 0 for it: go on.
        const callback = (address, length) => {
            try {
                if (length > 0) show(textAt(address, length));
                return 0;
            } catch (e) {
                thrown = { e };
                return 1;
            }
        };
        if (typeof prompt === 'string') {
            call(c.graft_generate_text, this.handle, ...text(prompt), own, callback, null, report);
        } else {
            call(c.graft_generate_messages, this.handle, messages(prompt), prompt.length, null, own, callback, null, report);
        }
        if (thrown) throw thrown.e;
        return report;
    }

    // The same as an async iterator of pieces, computed in a thread of its own: for servers and user interfaces.
    async *stream(prompt, changes) {
        const own = options('graft_generate_options', changes);
        const generation = typeof prompt === 'string'
            ? made(c.graft_generation_of_text, this.handle, ...text(prompt), own)
            : made(c.graft_generation_of_messages, this.handle, messages(prompt), prompt.length, null, own);
        try {
            for (;;) {
                const [address, length, token, more] = [[null], [0], [0], [0]];
                await callAside(c.graft_generation_next, generation, address, length, token, more);
                if (more[0] === 0) return;
                if (length[0] > 0) yield textAt(address[0], length[0]);
            }
        } finally {
            c.graft_generation_free(generation);
        }
    }
}

const messages = (list) => list.map(({ role, content, extra = null }) => ({
    role,
    role_len: Buffer.byteLength(role),
    content,
    content_len: Buffer.byteLength(content),
    extra,
    extra_len: extra === null ? 0 : Buffer.byteLength(extra),
}));
