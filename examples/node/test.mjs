// The tests of this example. Environment: GRAFT_HEADER, GRAFT_LIBRARY, GREEDY (the program of greedy.c), GRAFT_MODEL (SmolLM2).
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import test, { after } from 'node:test';
import { Adapter, GraftError, Model, Session } from './graft.mjs';

const path = process.env.GRAFT_MODEL;
const repository = new URL('../../', import.meta.url).pathname;
const demo = (name) => `${repository}demo/adapters/${name}`;
const tiny = `${repository}tests/data/tiny/llama-tied`;
const prompt = 'The capital of France is';
const inC = (adapter = '-') => execFileSync(process.env.GREEDY, [path, adapter, prompt], { encoding: 'utf8' });

const model = new Model(path);
const session = new Session(model);

test('facts, tokens and texts', () => {
    assert.equal(model.info.architecture, 'llama');
    for (const text of ['', 'The sea.', 'café 🚀 👩‍💻 \0 日本']) assert.equal(model.detokenize(model.tokenize(text)), text);
});

test('a callback is shown the text that C gets', () => {
    session.reset();
    const pieces = [];
    const report = session.generate(prompt, { max_tokens: 40 }, (piece) => pieces.push(piece));
    assert.equal(pieces.join(''), inC());
    assert.match(pieces.join(''), /^ Paris/);
    assert.ok(pieces.length > 10 && report.tokens <= 40 && report.prompt_tokens > 0);
});

test('adapters are switched, and each gives the text that C gets', async () => {
    for (const name of ['stage-verse', 'json-extract', null, 'stage-verse']) {
        const adapter = name && new Adapter(model, demo(name));
        session.reset();
        session.setAdapters(adapter ? [[adapter, 1]] : []);
        adapter?.free(); // the session keeps what it needs
        let text = '';
        for await (const piece of session.stream(prompt, { max_tokens: 40 })) text += piece;
        assert.equal(text, inC(name ? demo(name) : '-'));
    }
    session.setAdapters([]);
});

test('messages', async () => {
    const adapter = new Adapter(model, demo('json-extract'));
    session.setAdapters([[adapter, 1]]);
    const question = [{ role: 'user', content: 'Maria Lopez, 34, moved from Lisbon to Oslo in 2019 to work as a nurse.' }];
    let [shown, streamed] = ['', ''];
    session.generate(question, { max_tokens: 60 }, (piece) => (shown += piece));
    for await (const piece of session.stream(question, { max_tokens: 60 })) streamed += piece;
    assert.equal(JSON.parse(shown).name, 'Maria Lopez');
    assert.equal(streamed, shown);
    session.setAdapters([]);
    adapter.free();
});

test('what a callback throws comes out, and ends the generation', () => {
    session.reset();
    let shown = 0;
    const show = () => {
        if (++shown === 3) throw new RangeError('enough');
    };
    assert.throws(() => session.generate('Once upon a time', { max_tokens: 1000 }, show), RangeError);
    assert.equal(shown, 3);
});

test('the event loop goes on while text comes, and can cancel it', async () => {
    session.reset();
    let ticks = 0;
    const timer = setInterval(() => ++ticks === 20 && session.cancel(), 1);
    let text = '';
    for await (const piece of session.stream('Once upon a time', { max_tokens: 4000, ignore_eos: 1 })) text += piece;
    clearInterval(timer);
    assert.ok(ticks >= 20 && text.length > 0);
    // A loop that is left frees the generation: the session is free for the next.
    for await (const piece of session.stream('The end', { max_tokens: 4000, ignore_eos: 1 })) if (piece) break;
    session.reset();
});

test('sessions run side by side', async () => {
    const small = new Model(`${tiny}/model.gguf`);
    const run = async (_, i) => {
        const own = new Session(small, { precision: 1 });
        const adapter = new Adapter(small, `${tiny}/adapters/${['all-linear', 'qv', 'rslora', 'f16'][i % 4]}`);
        own.setAdapters([[adapter, 1]]);
        let text = '';
        for await (const piece of own.stream('Hello', { max_tokens: 30, ignore_eos: 1 })) text += piece;
        adapter.free();
        own.free();
        return text;
    };
    const texts = await Promise.all(Array.from({ length: 8 }, run));
    for (let i = 0; i < 4; i++) {
        assert.equal(texts[i], texts[i + 4]);
        assert.equal(texts[i], await run(null, i));
    }
    small.free();
});

test('errors say what and where', () => {
    const error = (f, status) => assert.throws(f, (e) => e instanceof GraftError && e.status === status && e.message.length > status.length);
    error(() => new Model('/no/such/🚀.gguf'), 'io');
    try {
        new Model('/no/such/🚀.gguf');
    } catch (e) {
        assert.equal(e.file, '/no/such/🚀.gguf');
    }
    error(() => new Adapter(model, `${tiny}/adapters/qv`), 'mismatch');
    const freed = new Session(model);
    freed.free();
    freed.free();
    error(() => freed.reset(), 'handle');
    // Inside a callback the session is busy.
    error(() => session.generate(prompt, { max_tokens: 4 }, () => session.reset()), 'busy');
    session.reset();
});

test('closing in another order', async () => {
    const own = new Model(path);
    const last = new Session(own);
    own.free();
    let text = '';
    last.generate(prompt, { max_tokens: 4 }, (piece) => (text += piece));
    assert.match(text, /^ Paris/);
    last.free();
});

after(() => {
    session.free();
    model.free();
});
