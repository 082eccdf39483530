package dev.graft;

/** What a session is made with. */
public final class SessionOptions {
    /** The most tokens that it can hold; 0 for the model's own context length. The cache takes memory as it fills. */
    public long context = 0;
    /** Tokens of a prompt that run through the layers together. More need more memory. */
    public int chunk = 512;
    /** Whether to compute with 32-bit activations, for comparisons, instead of 8-bit ones, which are several times faster. */
    public boolean exact;
}
