package dev.graft;

/**
 * A flag that ends work: handed over in {@link GenerateOptions#cancel}, set by any thread at any time, also before the work begins. One may
 * serve several generations. {@link Session#cancel()} is the short form for the one under way.
 */
public final class Cancel extends Handle {
    /** A flag that is not set. */
    public Cancel() {
        super(Native.cancelNew());
    }

    /** Asks the work that has this flag to end, now and later: until it is cleared. */
    public void set() {
        long cancel = enter();
        try {
            Native.cancelSet(cancel);
        } finally {
            leave();
        }
    }

    /** Takes it back. */
    public void clear() {
        long cancel = enter();
        try {
            Native.cancelClear(cancel);
        } finally {
            leave();
        }
    }

    @Override
    void free(long pointer) {
        Native.cancelFree(pointer);
    }
}
