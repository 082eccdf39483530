package dev.graft;

/** Facts about an adapter. */
public final class AdapterInfo {
    /** Its {@code peft_type}, such as "LORA". */
    public final String method;
    /** Modules that it changes. */
    public final long sites;
    /** Trained numbers. */
    public final long parameters;
    /** Bytes of memory that it takes. */
    public final long bytes;
    /** The smallest rank of its low-rank updates; 0 where there are none. */
    public final int minRank;
    /** The largest rank of its low-rank updates; 0 where there are none. */
    public final int maxRank;

    /** As {@link Native#adapterInfo} gives them. */
    AdapterInfo(byte[] method, long[] numbers) {
        this.method = Texts.decode(method);
        sites = numbers[0];
        parameters = numbers[1];
        bytes = numbers[2];
        minRank = (int) numbers[3];
        maxRank = (int) numbers[4];
    }
}
