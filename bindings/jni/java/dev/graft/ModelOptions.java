package dev.graft;

/** How to open a model. */
public final class ModelOptions {
    /** Threads that work for it, the calling one included; 0 for one a physical core. */
    public int threads = 0;
    /** Whether to read the file instead of mapping it: safe against a file that changes, but the memory is the app's own. */
    public boolean read;
    /** The path of a {@code tokenizer.json} to use instead of the tokenizer in the model, or {@code null}. */
    public String tokenizer;
}
