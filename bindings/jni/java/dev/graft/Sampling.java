package dev.graft;

import java.util.LinkedHashMap;
import java.util.Map;

/** How to choose the next token. As it is made, always the most likely one. */
public final class Sampling {
    /** 0 takes the most likely token; 1 is the model's own distribution; above 1 flattens it. */
    public float temperature = 0;
    /** Keeps the most likely tokens whose mass reaches this; 1 keeps all. */
    public float topP = 1;
    /** Keeps tokens at least this times as likely as the most likely one; 0 keeps all. */
    public float minP = 0;
    /** Keeps so many of the most likely tokens; 0 keeps all. */
    public int topK = 0;
    /** Divides positive and multiplies negative logits of tokens seen before; 1 is off. */
    public float repeatPenalty = 1;
    /** How many of the last tokens count as seen; -1 for all. */
    public int repeatLastN = 64;
    /** Subtracted from a seen token's logit once per occurrence. */
    public float frequencyPenalty = 0;
    /** Subtracted from a seen token's logit once. */
    public float presencePenalty = 0;
    /** Starts the random numbers of each generation: the same seed gives the same text. */
    public long seed = 0;
    /** What is added to the logits of tokens; negative infinity bans one. */
    public final Map<Integer, Float> logitBias = new LinkedHashMap<>();
}
