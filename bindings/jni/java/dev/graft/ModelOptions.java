package dev.graft;

/** How to open a model. */
public final class ModelOptions {
    /** Threads that work for it, the calling one included; 0 for one a physical core. */
    public int threads = 0;
    /** Whether to read the file instead of mapping it: safe against a file that changes, but the memory is the app's own. */
    public boolean read;
    /** The path of a {@code tokenizer.json} to use instead of the tokenizer in the model, or {@code null}. */
    public String tokenizer;
    /** What runs the model. */
    public Device device = Device.AUTO;
    /** With {@link Device#CUDA}: which GPU; -1 for that which has most memory free. */
    public int deviceIndex = -1;
    /** Layers on the GPU, the last ones, and with them the head; -1 for as many as fit into its free memory. */
    public int gpuLayers = -1;

    /** What runs a model; in the order of the C interface. */
    public enum Device {
        /** An NVIDIA GPU where there is one that the library can use, else the CPU. */
        AUTO,
        /** The CPU. */
        CPU,
        /** An NVIDIA GPU: an error where there is none. */
        CUDA
    }

    /** Threads, device, its index and layers, as {@link Native} takes them. */
    int[] numbers() {
        return new int[] {threads, device.ordinal(), deviceIndex, gpuLayers};
    }
}
