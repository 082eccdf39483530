package dev.graft;

/**
 * An adapter on a model, from {@link Model#openAdapter(String)}. Any threads may use it. Sessions keep what they need of it: it may be closed
 * while they use it.
 */
public final class Adapter extends Handle {
    private final AdapterInfo info;

    Adapter(long pointer) {
        super(pointer);
        long[] numbers = new long[5];
        byte[] method;
        try {
            method = Native.adapterInfo(pointer, numbers);
        } catch (Throwable e) {
            close();
            throw e;
        }
        info = new AdapterInfo(method, numbers);
    }

    /** Facts about it; also after it is closed. */
    public AdapterInfo info() {
        return info;
    }

    @Override
    void free(long pointer) {
        Native.adapterFree(pointer);
    }
}
