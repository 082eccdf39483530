package dev.graft;

import java.util.ArrayList;
import java.util.List;

/** When to end, and how to choose tokens. */
public final class GenerateOptions {
    /** The most tokens to generate; 0 goes on until the model or the context ends. */
    public long maxTokens = 0;
    /** Generation ends before the first of these texts to appear. */
    public final List<String> stop = new ArrayList<>();
    /** How to choose tokens; {@code null} for the most likely ones. */
    public Sampling sampling;
    /** Ends the work when it is set, or {@code null}. */
    public Cancel cancel;
    /** When the context is full: drop half of the tokens after the first {@code keep} and go on; -1 ends there. */
    public long keep = -1;
    /** Whether to go on after the model's end tokens. */
    public boolean ignoreEos;
    /** Whether to show the text of control tokens. */
    public boolean showSpecial;
    /** How messages become a text. */
    public ChatOptions chat = new ChatOptions();
}
