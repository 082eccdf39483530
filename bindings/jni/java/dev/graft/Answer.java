package dev.graft;

/** What a generation did. */
public final class Answer {
    /** Why a generation ended. */
    public enum Finish {
        /** It did not: a reason of a newer native library. */
        NONE,
        /** The model said so. */
        EOS,
        /** A stop text was reached. */
        STOP,
        /** {@link GenerateOptions#maxTokens} were generated. */
        LENGTH,
        /** {@link Session#cancel()}, {@link Session#close()} or a {@link Cancel} said so. */
        CANCELLED,
        /** The context is full. */
        CONTEXT
    }

    /** All of the text. */
    public final String text;
    /** Why it ended. */
    public final Finish finish;
    /** Tokens of the prompt that were evaluated. */
    public final long promptTokens;
    /** Tokens of the prompt that the session had already (of messages only). */
    public final long reusedTokens;
    /** New tokens. */
    public final long tokens;
    /** Time for the prompt. */
    public final double promptSeconds;
    /** Time for the new tokens. */
    public final double generationSeconds;

    /** {@code report} as {@link Native#generate} writes it. */
    Answer(String text, double[] report) {
        Finish[] all = Finish.values();
        int why = (int) report[5];
        this.text = text;
        this.finish = why > 0 && why < all.length ? all[why] : Finish.NONE;
        this.promptTokens = (long) report[0];
        this.reusedTokens = (long) report[1];
        this.tokens = (long) report[2];
        this.promptSeconds = report[3];
        this.generationSeconds = report[4];
    }

    /** The text. */
    @Override
    public String toString() {
        return text;
    }
}
