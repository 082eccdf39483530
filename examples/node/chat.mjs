// Answers one prompt without an adapter and with each that is given: node chat.mjs MODEL.gguf PROMPT [ADAPTER_FOLDER ...]
import { Adapter, GraftError, Model, Session } from './graft.mjs';

const [path, prompt, ...folders] = process.argv.slice(2);
try {
    const model = new Model(path);
    const session = new Session(model);
    for (const folder of [null, ...folders]) {
        const adapter = folder && new Adapter(model, folder);
        session.setAdapters(adapter ? [[adapter, 1]] : []);
        session.reset();
        process.stdout.write(`${folder ?? 'the model alone'}: `);
        for await (const piece of session.stream([{ role: 'user', content: prompt }], { max_tokens: 60 })) process.stdout.write(piece);
        process.stdout.write('\n');
        adapter?.free();
    }
    session.free();
    model.free();
} catch (e) {
    if (!(e instanceof GraftError)) throw e;
    console.error(`chat: ${e.message}`);
    process.exitCode = 1;
}
