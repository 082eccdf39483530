package dev.graft;

/** What went wrong, and where. The session, model or adapter is as it was before the call. */
public final class GraftException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** What kind of failure it is. */
    public enum Status {
        /** A status of a newer native library. */
        UNKNOWN,
        /** The system refused: a missing file, no permission, a full disk. */
        IO,
        /** The input breaks its own format: truncated, contradictory, out of range. */
        INVALID,
        /** The input is well formed but asks for something that Graft does not do. */
        UNSUPPORTED,
        /** Two inputs do not belong together: an adapter and another model. */
        MISMATCH,
        /** A documented limit was reached: the context is full, a size is over its cap. */
        LIMIT,
        /** The call is wrong: an argument is out of range, there are no tokens. */
        USAGE,
        /** A defect in Graft itself. */
        INTERNAL,
        /** The caller asked for the work to end. */
        CANCELLED,
        /** The session is in use: by another thread, or by the call whose listener this is. */
        BUSY,
        /** Not an object of the native library. */
        HANDLE,
        /** A defect ended an earlier call in the middle: the object can only be closed. */
        POISONED
    }

    private final Status status;
    private final String file;
    private final String item;
    private final String expected;
    private final String found;

    /** Called by the native library, with UTF-8. */
    GraftException(int status, byte[] message, byte[] file, byte[] item, byte[] expected, byte[] found) {
        super(Texts.decode(message));
        Status[] all = Status.values();
        this.status = status > 0 && status < all.length ? all[status] : Status.UNKNOWN;
        this.file = Texts.decode(file);
        this.item = Texts.decode(item);
        this.expected = Texts.decode(expected);
        this.found = Texts.decode(found);
    }

    /** What kind of failure it is. */
    public Status getStatus() {
        return status;
    }

    /** The file at fault, or {@code null}. */
    public String getFile() {
        return file;
    }

    /** The tensor, key, field or argument at fault, or {@code null}. */
    public String getItem() {
        return item;
    }

    /** What would have been right, or {@code null}. */
    public String getExpected() {
        return expected;
    }

    /** What was there instead, or {@code null}. */
    public String getFound() {
        return found;
    }
}
