package dev.graft;

import java.nio.ByteBuffer;

/**
 * The functions of {@code graft_jni.c}, which hand everything on to the C interface. Texts are UTF-8; lists of texts are those of
 * {@link Texts}. They throw {@link GraftException}. A handle must not have been freed: {@link Handle} sees to that.
 */
final class Native {
    static {
        String file = System.getProperty("dev.graft.library");
        if (file != null) {
            System.load(file);
        } else {
            System.loadLibrary("graft_jni");
        }
    }

    private Native() {}

    static native byte[] version();

    static native long cancelNew();

    static native void cancelSet(long cancel);

    static native void cancelClear(long cancel);

    static native void cancelFree(long cancel);

    /** Numbers: those of {@link ModelOptions#numbers}. */
    static native long modelOpen(byte[] path, int[] numbers, boolean read, byte[] tokenizer);

    static native long modelOpenFile(int descriptor, long offset, long length, int[] numbers, boolean read, byte[] tokenizer);

    /** Keeps {@code buffer}, a direct one, until the model and all that came of it are freed. */
    static native long modelOpenBuffer(ByteBuffer buffer, int[] numbers, byte[] tokenizer);

    static native void modelFree(long model);

    /** Gives architecture, name, ISA and device; writes eleven numbers in the order of {@link ModelInfo}. */
    static native byte[][] modelInfo(long model, long[] numbers);

    static native byte[] modelMetadata(long model, byte[] key);

    static native byte[][] modelMetadataKeys(long model);

    static native int[] tokenize(long model, byte[] text, boolean ends, boolean special);

    static native byte[] detokenize(long model, int[] tokens, boolean skipSpecial);

    static native byte[] tokenBytes(long model, int token);

    static native int tokenFind(long model, byte[] text);

    static native boolean tokenEnds(long model, int token);

    /** Texts: template, tools, then three of each message. */
    static native byte[] render(long model, byte[] texts, int[] lengths, boolean addGenerationPrompt);

    static native long adapterOpen(long model, byte[] path, long taskId);

    static native long adapterOpenMemory(long model, byte[] config, byte[] tensors, long taskId);

    static native void adapterFree(long adapter);

    /** Gives the method; writes five numbers in the order of {@link AdapterInfo}. */
    static native byte[] adapterInfo(long adapter, long[] numbers);

    static native long sessionNew(long model, long context, int chunk, boolean exact);

    static native void sessionFree(long session);

    static native void sessionCancel(long session);

    static native void setAdapters(long session, long[] adapters, float[] weights);

    static native float[] eval(long session, int[] tokens);

    static native int[] sessionTokens(long session);

    static native long sessionContext(long session);

    static native void truncate(long session, long n);

    static native void slide(long session, long keep);

    static native void save(long session, byte[] path);

    static native void restore(long session, byte[] path);

    static native byte[] saveMemory(long session);

    static native void restoreMemory(long session, byte[] state);

    static native float[] embed(long session, int[] tokens, int pooling, int size);

    /**
     * Texts: template, tools, the prompt, then {@code stops} of those that end it, then three of each message. What is generated from is
     * {@code tokens}, or where they are {@code null} the prompt, or where that is {@code null} the messages.
     *
     * @param sampling temperature, top-p, min-p and the penalties for repetition, frequency and presence; {@code null} for greedy
     * @param report is given the evaluated and reused tokens of the prompt, the new tokens, the seconds for the prompt and for the new
     *     tokens, and why it ended
     */
    static native void generate(
            long session,
            byte[] texts,
            int[] lengths,
            int stops,
            int[] tokens,
            boolean addGenerationPrompt,
            long maxTokens,
            long keep,
            boolean ignoreEos,
            boolean showSpecial,
            long cancel,
            float[] sampling,
            int topK,
            int repeatLastN,
            long seed,
            int[] biased,
            float[] biases,
            Pieces pieces,
            double[] report);
}
