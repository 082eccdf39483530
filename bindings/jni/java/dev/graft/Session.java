package dev.graft;

import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * A conversation with a model: its tokens, its cache, its active adapters. Calls take as long as they compute: not for a UI's thread. One
 * thread at a time may use it; a second one's call throws {@link GraftException} with {@link GraftException.Status#BUSY}, but {@link
 * #cancel()} and {@link #close()} are for any. Sessions of one model run side by side.
 */
public final class Session extends Handle {
    private final Model model;

    Session(long pointer, Model model) {
        super(pointer);
        this.model = model;
    }

    /** Which hidden states make the vector of a text. */
    public enum Pooling {
        /** That of the last token. */
        LAST,
        /** The mean of all. */
        MEAN,
        /** That of the first token. */
        FIRST
    }

    /** Its model. */
    public Model model() {
        return model;
    }

    /** Makes this adapter the only active one from the next token on; {@code null} for the model alone. The cache is kept. */
    public void setAdapter(Adapter adapter) {
        setAdapters(adapter == null ? Collections.<Adapter, Float>emptyMap() : Collections.singletonMap(adapter, 1f));
    }

    /**
     * Makes these adapters, each with its weight, the active ones from the next token on; none for the model alone. What earlier tokens
     * left in the cache is kept: {@link #reset()} clears it. On failure the adapters from before stay.
     */
    public void setAdapters(Map<Adapter, Float> adapters) {
        Adapter[] used = adapters.keySet().toArray(new Adapter[0]);
        long[] pointers = new long[used.length];
        float[] weights = new float[used.length];
        int entered = 0;
        long session = enter();
        try {
            for (; entered < used.length; entered++) {
                weights[entered] = adapters.get(used[entered]);
                pointers[entered] = used[entered].enter();
            }
            Native.setAdapters(session, pointers, weights);
        } finally {
            while (entered > 0) {
                used[--entered].leave();
            }
            leave();
        }
    }

    /** Appends a text and generates, greedily, without limit. */
    public Answer generate(String prompt, TextListener listener) {
        return generate(prompt, new GenerateOptions(), listener);
    }

    /**
     * Appends a text and generates. At the beginning of a session the model's begin token is put before it. Afterwards the session holds
     * the prompt and all new tokens but the last.
     *
     * @param listener is shown the text as it comes; may be {@code null}
     * @return what was generated; being cancelled is no error: {@link Answer#finish} says it
     */
    public Answer generate(String prompt, GenerateOptions options, TextListener listener) {
        return generate(Objects.requireNonNull(prompt), null, Collections.<Message>emptyList(), options, listener);
    }

    /** Appends tokens (none: goes on from the logits that are there) and generates, as {@link #generate(String, GenerateOptions, TextListener)}. */
    public Answer generate(int[] tokens, GenerateOptions options, TextListener listener) {
        return generate(null, Objects.requireNonNull(tokens), Collections.<Message>emptyList(), options, listener);
    }

    /** Generates the answer to a conversation, greedily, without limit. */
    public Answer generate(List<Message> messages, TextListener listener) {
        return generate(messages, new GenerateOptions(), listener);
    }

    /**
     * Makes the session hold a whole conversation, written by the model's chat template, and generates the answer, as {@link
     * #generate(String, GenerateOptions, TextListener)}. What the session holds already is kept as far as it is the beginning of the
     * conversation, and not evaluated again; the rest of it is forgotten.
     */
    public Answer generate(List<Message> messages, GenerateOptions options, TextListener listener) {
        return generate(null, null, messages, options, listener);
    }

    private Answer generate(String prompt, int[] tokens, List<Message> messages, GenerateOptions options, TextListener listener) {
        if (options.maxTokens < 0 || options.keep < -1) {
            throw new IllegalArgumentException("maxTokens is 0 or more, keep -1 or more");
        }
        Texts texts = new Texts().add(options.chat.template).add(options.chat.tools).add(prompt);
        for (String stop : options.stop) {
            texts.add(Objects.requireNonNull(stop));
        }
        texts.add(messages);
        Sampling how = options.sampling == null ? new Sampling() : options.sampling;
        float[] sampling = {how.temperature, how.topP, how.minP, how.repeatPenalty, how.frequencyPenalty, how.presencePenalty};
        int[] biased = new int[how.logitBias.size()];
        float[] biases = new float[biased.length];
        int i = 0;
        for (Map.Entry<Integer, Float> bias : how.logitBias.entrySet()) {
            biased[i] = bias.getKey();
            biases[i++] = bias.getValue();
        }
        Pieces pieces = new Pieces(this, listener);
        double[] report = new double[6];
        Cancel cancel = options.cancel;
        long session = enter();
        try {
            long flag = cancel == null ? 0 : cancel.enter();
            try {
                Native.generate(
                        session,
                        texts.bytes(),
                        texts.lengths(),
                        options.stop.size(),
                        tokens,
                        options.chat.addGenerationPrompt,
                        options.maxTokens,
                        options.keep,
                        options.ignoreEos,
                        options.showSpecial,
                        flag,
                        options.sampling == null ? null : sampling,
                        how.topK,
                        how.repeatLastN,
                        how.seed,
                        biased,
                        biases,
                        pieces,
                        report);
            } finally {
                if (cancel != null) {
                    cancel.leave();
                }
            }
        } finally {
            leave();
        }
        return new Answer(pieces.text(), report);
    }

    /** Ends the generation that is under way, within a token; where none is, nothing happens. Any thread at any time. */
    public void cancel() {
        long session;
        try {
            session = enter();
        } catch (IllegalStateException closed) {
            return; // closing has ended it
        }
        try {
            Native.sessionCancel(session);
        } finally {
            leave();
        }
    }

    /** Appends tokens and gives the logits that follow the last of them, one an entry of the vocabulary. */
    public float[] eval(int... tokens) {
        long session = enter();
        try {
            return Native.eval(session, tokens);
        } finally {
            leave();
        }
    }

    /** The tokens that it holds. */
    public int[] tokens() {
        long session = enter();
        try {
            return Native.sessionTokens(session);
        } finally {
            leave();
        }
    }

    /** Tokens that it can hold. */
    public long context() {
        long session = enter();
        try {
            return Native.sessionContext(session);
        } finally {
            leave();
        }
    }

    /** Forgets all tokens; adapters stay active. */
    public void reset() {
        truncate(0);
    }

    /** Forgets all but the first {@code n} tokens. */
    public void truncate(long n) {
        long session = enter();
        try {
            Native.truncate(session, n);
        } finally {
            leave();
        }
    }

    /** Makes room in a full context: keeps the first {@code keep} tokens and the later half of the others. */
    public void slide(long keep) {
        long session = enter();
        try {
            Native.slide(session, keep);
        } finally {
            leave();
        }
    }

    /** Writes what it holds (tokens and cache, not adapters) to a file, whole or not at all: to go on after the app was ended. */
    public void save(String path) {
        long session = enter();
        try {
            Native.save(session, Texts.required(path));
        } finally {
            leave();
        }
    }

    /**
     * Makes it hold what {@link #save(String)} wrote, from any session of the same model. On failure it is as before. Adapters are not
     * switched: those that were on when the state was made should be on.
     */
    public void restore(String path) {
        long session = enter();
        try {
            Native.restore(session, Texts.required(path));
        } finally {
            leave();
        }
    }

    /** As {@link #save(String)}, to memory. */
    public byte[] save() {
        long session = enter();
        try {
            return Native.saveMemory(session);
        } finally {
            leave();
        }
    }

    /** As {@link #restore(String)}, from memory. */
    public void restore(byte[] state) {
        long session = enter();
        try {
            Native.restoreMemory(session, state);
        } finally {
            leave();
        }
    }

    /** The vector of a text of its own: forgets all tokens, evaluates this text, and pools its hidden states. The model must be open. */
    public float[] embed(String text, Pooling pooling) {
        int[] tokens = model.tokenize(text);
        reset();
        return embed(tokens, pooling);
    }

    /**
     * Evaluates tokens, after what the session holds already, and gives their vector: {@link ModelInfo#hiddenSize} numbers, not scaled to
     * length 1. There are no logits afterwards.
     */
    public float[] embed(int[] tokens, Pooling pooling) {
        long session = enter();
        try {
            return Native.embed(session, tokens, pooling.ordinal(), model.info().hiddenSize);
        } finally {
            leave();
        }
    }

    @Override
    void interrupt(long pointer) {
        Native.sessionCancel(pointer);
    }

    @Override
    void free(long pointer) {
        Native.sessionFree(pointer);
    }
}
