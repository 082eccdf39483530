package dev.graft;

/** Facts about a model. */
public final class ModelInfo {
    /** Such as "llama". */
    public final String architecture;
    /** What the file calls it, or {@code null}. */
    public final String name;
    /** The instruction set level that runs it, such as "avx2" or "neon-i8mm". */
    public final String isa;
    /** Numbers in the file. */
    public final long parameters;
    /** Bytes of them. */
    public final long weightBytes;
    /** Entries of the vocabulary. */
    public final int vocabSize;
    /** The most tokens that a session can hold. */
    public final int contextLength;
    /** Layers. */
    public final int layers;
    /** Numbers in a hidden state, and in a vector that {@link Session#embed} gives. */
    public final int hiddenSize;
    /** Threads that work for it, the calling one included. */
    public final int threads;
    /** Whether it has a chat template. */
    public final boolean hasChatTemplate;
    /** The token that begins a text, or -1. */
    public final int bos;
    /** The token that ends a text, or -1. */
    public final int eos;
    /** Where it runs, or why {@link ModelOptions.Device#AUTO} took no GPU; {@code null} on the CPU alone. */
    public final String device;
    /** Layers on a GPU. */
    public final int gpuLayers;

    /** As {@link Native#modelInfo} gives them. */
    ModelInfo(byte[][] texts, long[] numbers) {
        architecture = Texts.decode(texts[0]);
        name = Texts.decode(texts[1]);
        isa = Texts.decode(texts[2]);
        parameters = numbers[0];
        weightBytes = numbers[1];
        vocabSize = (int) numbers[2];
        contextLength = (int) numbers[3];
        layers = (int) numbers[4];
        hiddenSize = (int) numbers[5];
        threads = (int) numbers[6];
        hasChatTemplate = numbers[7] != 0;
        bos = (int) numbers[8];
        eos = (int) numbers[9];
        device = Texts.decode(texts[3]);
        gpuLayers = (int) numbers[10];
    }
}
