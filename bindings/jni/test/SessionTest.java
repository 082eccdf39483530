import dev.graft.Adapter;
import dev.graft.Answer;
import dev.graft.Cancel;
import dev.graft.GenerateOptions;
import dev.graft.GraftException;
import dev.graft.Message;
import dev.graft.Model;
import dev.graft.Sampling;
import dev.graft.Session;
import dev.graft.SessionOptions;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/** Sessions: generating, switching, threads, state. */
final class SessionTest extends Check {
    // Generating.

    static void streaming() {
        try (Model model = Model.open(real); Session session = model.newSession()) {
            List<String> pieces = new ArrayList<>();
            Answer answer = session.generate("The capital of France is", tokens(12), pieces::add);
            check(answer.text.startsWith(" Paris"), answer.text);
            equal(String.join("", pieces), answer.text);
            check(pieces.size() > 3 && !pieces.contains(""), pieces.toString());
            equal(answer.finish, Answer.Finish.LENGTH);
            equal(answer.tokens, 12L);
            check(answer.promptTokens > 0 && answer.promptSeconds > 0 && answer.generationSeconds > 0, "the report");
            equal(session.tokens().length, (int) answer.promptTokens + 11);

            session.reset();
            equal(session.generate(model.tokenize("The capital of France is"), tokens(12), null).text, answer.text);

            session.reset();
            GenerateOptions stop = tokens(12);
            stop.stop.add("no such text");
            stop.stop.add("ris");
            Answer stopped = session.generate("The capital of France is", stop, null);
            equal(stopped.text, " Pa");
            equal(stopped.finish, Answer.Finish.STOP);
        }
    }

    static void sampling() {
        try (Model model = tinyModel(); Session session = model.newSession()) {
            GenerateOptions options = tokens(24);
            options.sampling = new Sampling();
            options.sampling.temperature = 1;
            options.sampling.topP = 0.95f;
            options.sampling.topK = 100;
            options.sampling.repeatLastN = -1;
            int[] first = sampled(session, options);
            check(Arrays.equals(sampled(session, options), first), "the same seed, the same tokens");
            options.sampling.seed = 2;
            check(!Arrays.equals(sampled(session, options), first), "another seed, other tokens");
            options.sampling.logitBias.put(9, 1e6f);
            for (int token : Arrays.copyOfRange(sampled(session, options), 2, 24)) {
                equal(token, 9);
            }
        }
    }

    static int[] sampled(Session session, GenerateOptions options) {
        session.reset();
        session.generate(new int[] {3, 4}, options, null);
        return session.tokens();
    }

    static void listenerThrows() throws Exception {
        try (Model model = Model.open(real); Session session = model.newSession()) {
            IOException own = new IOException("the listener's own");
            int[] shown = {0};
            Throwable found = thrown(IOException.class, () -> session.generate("Once upon a time", tokens(1000), text -> {
                if (++shown[0] == 3) {
                    SessionTest.<RuntimeException>sneak(own);
                }
            }));
            check(found == own, "the very exception");
            equal(shown[0], 3);
            session.reset();
            session.generate("Once upon a time", tokens(2), null); // is not busy
        }
    }

    @SuppressWarnings("unchecked")
    static <E extends Throwable> void sneak(Throwable e) throws E {
        throw (E) e;
    }

    static void busy() throws Exception {
        try (Model model = Model.open(real); Session session = model.newSession()) {
            GraftException inside = graft(GraftException.Status.BUSY,
                    () -> session.generate("Once upon a time", tokens(1000), text -> session.reset()));
            equal(inside.getStatus(), GraftException.Status.BUSY);
            AtomicReference<Throwable> other = new AtomicReference<>();
            Answer answer = session.generate("Once upon a time", tokens(1000), text -> {
                Thread thread = new Thread(() -> {
                    try {
                        session.eval(1);
                    } catch (Throwable e) {
                        other.set(e);
                    }
                });
                thread.start();
                try {
                    thread.join();
                } catch (InterruptedException e) {
                    throw new AssertionError(e);
                }
                session.cancel();
            });
            equal(answer.finish, Answer.Finish.CANCELLED);
            equal(((GraftException) other.get()).getStatus(), GraftException.Status.BUSY);
            // Other sessions may be used in a listener.
            try (Session second = model.newSession()) {
                session.reset();
                session.generate("Once upon a time", tokens(2), text -> second.eval(1));
            }
        }
    }

    static void cancelFromThread() throws Exception {
        try (Model model = Model.open(real); Session session = model.newSession()) {
            CountDownLatch begun = new CountDownLatch(1);
            Thread thread = new Thread(() -> {
                try {
                    begun.await();
                } catch (InterruptedException e) {
                    return;
                }
                session.cancel();
            });
            thread.start();
            Answer answer = session.generate("Once upon a time", tokens(4000), text -> begun.countDown());
            thread.join();
            equal(answer.finish, Answer.Finish.CANCELLED);
            check(answer.tokens < 4000 && !answer.text.isEmpty(), "the text so far");
            session.reset();
            equal(session.generate("Once upon a time", tokens(2), null).finish, Answer.Finish.LENGTH);
        }
    }

    static void flag() {
        try (Model model = tinyModel(); Session session = model.newSession(); Cancel cancel = new Cancel()) {
            GenerateOptions options = tokens(8);
            options.cancel = cancel;
            cancel.set();
            equal(session.generate(new int[] {1, 2}, options, null).finish, Answer.Finish.CANCELLED);
            cancel.clear();
            session.reset();
            equal(session.generate(new int[] {1, 2}, options, null).finish, Answer.Finish.LENGTH);
        }
    }

    static void closeWhileGenerating() throws Exception {
        try (Model model = Model.open(real)) {
            Session session = model.newSession();
            CountDownLatch begun = new CountDownLatch(1);
            Thread thread = new Thread(() -> {
                try {
                    begun.await();
                } catch (InterruptedException e) {
                    return;
                }
                session.close();
            });
            thread.start();
            Answer answer = session.generate("Once upon a time", tokens(4000), text -> begun.countDown());
            equal(answer.finish, Answer.Finish.CANCELLED);
            thread.join();
            thrown(IllegalStateException.class, session::tokens);

            Session second = model.newSession();
            equal(second.generate("Once upon a time", tokens(4000), text -> second.close()).finish, Answer.Finish.CANCELLED);
        }
    }

    // Adapters.

    static void switchAdapters() {
        String[] names = {"all-linear", "qv", "rslora"};
        int[][] turns = {{3, 4, 5}, {6, 7}, {8}};
        try (Model model = tinyModel(); Session session = model.newSession(exact())) {
            Adapter[] adapters = new Adapter[names.length];
            float[][] alone = new float[names.length][];
            for (int i = 0; i < names.length; i++) {
                adapters[i] = tinyAdapter(model, names[i]);
                try (Session fresh = model.newSession(exact())) {
                    fresh.setAdapter(adapters[i]);
                    alone[i] = fresh.eval(turns[0]);
                }
                check(i == 0 || !Arrays.equals(alone[i], alone[0]), "adapters differ");
            }
            // One conversation, an adapter a turn: as a second session whose turns are cut elsewhere.
            float[] last = null;
            for (int i = 0; i < names.length; i++) {
                session.setAdapter(adapters[i]);
                last = session.eval(turns[i]);
                check(i > 0 || Arrays.equals(last, alone[0]), "the first turn is as in a session of its own");
            }
            try (Session second = model.newSession(exact())) {
                for (int i = 0; i < names.length; i++) {
                    second.setAdapter(adapters[i]);
                    float[] logits = null;
                    for (int token : turns[i]) {
                        logits = second.eval(token);
                    }
                    check(i < names.length - 1 || close(logits, last), "switching does not depend on how turns are cut");
                }
            }
            // Back to the first, over what is kept; the model alone; two at once.
            session.reset();
            session.setAdapter(adapters[0]);
            check(Arrays.equals(session.eval(turns[0]), alone[0]), "back to the first");
            session.reset();
            session.setAdapter(null);
            float[] base = session.eval(turns[0]);
            check(!Arrays.equals(base, alone[0]), "the model alone");
            session.reset();
            session.setAdapters(Collections.singletonMap(adapters[0], 0f));
            check(close(session.eval(turns[0]), base), "a weight of 0");
            Map<Adapter, Float> both = new LinkedHashMap<>();
            both.put(adapters[0], 1f);
            both.put(adapters[1], 0.5f);
            session.reset();
            session.setAdapters(both);
            float[] mixed = session.eval(turns[0]);
            check(!close(mixed, alone[0]) && !close(mixed, alone[1]), "two at once");
            for (Adapter adapter : adapters) {
                adapter.close();
            }
        }
    }

    static SessionOptions exact() {
        SessionOptions options = new SessionOptions();
        options.exact = true;
        return options;
    }

    static boolean close(float[] a, float[] b) {
        boolean close = a.length == b.length;
        for (int i = 0; close && i < a.length; i++) {
            close = Math.abs(a[i] - b[i]) < 1e-4f;
        }
        return close;
    }

    // Threads.

    static void manyThreads() throws Exception {
        String[] names = {null, "all-linear", "qv", "rslora"};
        ExecutorService threads = Executors.newFixedThreadPool(8);
        try (Model model = tinyModel()) {
            Callable<String> work = () -> {
                StringBuilder all = new StringBuilder();
                for (String name : names) {
                    try (Session session = model.newSession(); Adapter adapter = name == null ? null : tinyAdapter(model, name)) {
                        session.setAdapter(adapter);
                        session.generate(new int[] {1, 2, 3}, tokens(40), text -> all.append(text));
                        all.append(Arrays.toString(session.tokens()));
                    }
                }
                return all.toString();
            };
            String expected = work.call();
            List<Future<String>> found = threads.invokeAll(Collections.nCopies(8, work));
            for (Future<String> each : found) {
                equal(each.get(), expected);
            }
        } finally {
            threads.shutdown();
            check(threads.awaitTermination(60, TimeUnit.SECONDS), "threads end");
        }
    }

    // State, vectors, contexts.

    static void state() throws Exception {
        String path = scratch.resolve("\u00e9tat \ud83d\ude80").toString();
        try (Model model = tinyModel(); Session session = model.newSession(); Session other = model.newSession()) {
            session.eval(5, 6, 7);
            session.save(path);
            byte[] bytes = session.save();
            float[] expected = session.eval(8);
            other.restore(path);
            check(Arrays.equals(other.tokens(), new int[] {5, 6, 7}), "the tokens");
            check(Arrays.equals(other.eval(8), expected), "the same logits from a file");
            other.restore(bytes);
            check(Arrays.equals(other.eval(8), expected), "the same logits from memory");
            bytes[bytes.length / 2] ^= 1;
            thrown(GraftException.class, () -> other.restore(Arrays.copyOf(bytes, bytes.length - 1)));
            equal(other.tokens().length, 4);
            graft(GraftException.Status.IO, () -> other.restore(path + "?"));
        }
    }

    static void embeddings() throws Exception {
        try (Model model = Model.open(real); Session session = model.newSession()) {
            float[] cat = session.embed("The cat sleeps on the sofa.", Session.Pooling.MEAN);
            float[] kitten = session.embed("A kitten is sleeping on the couch.", Session.Pooling.MEAN);
            float[] tax = session.embed("Income tax returns are due in April.", Session.Pooling.MEAN);
            equal(cat.length, model.info().hiddenSize);
            check(cosine(cat, kitten) > cosine(cat, tax), cosine(cat, kitten) + " > " + cosine(cat, tax));
            check(!Arrays.equals(session.embed("The cat sleeps on the sofa.", Session.Pooling.LAST), cat), "pooling");
        }
    }

    static double cosine(float[] a, float[] b) {
        double ab = 0;
        double aa = 0;
        double bb = 0;
        for (int i = 0; i < a.length; i++) {
            ab += a[i] * b[i];
            aa += a[i] * a[i];
            bb += b[i] * b[i];
        }
        return ab / Math.sqrt(aa * bb);
    }

    static void context() throws Exception {
        SessionOptions small = new SessionOptions();
        small.context = 16;
        small.chunk = 4;
        try (Model model = tinyModel(); Session session = model.newSession(small)) {
            equal(session.context(), 16L);
            equal(session.generate(new int[] {1, 2}, tokens(100), null).finish, Answer.Finish.CONTEXT);
            graft(GraftException.Status.LIMIT, () -> session.eval(new int[17]));
            session.slide(2);
            check(session.tokens().length < 16, "room");
            session.reset();
            GenerateOptions options = tokens(40);
            options.keep = 2;
            equal(session.generate(new int[] {1, 2}, options, null).finish, Answer.Finish.LENGTH);
            session.truncate(1);
            equal(session.tokens().length, 1);
        }
    }

    // A real model.

    static void chat() {
        try (Model model = Model.open(real);
                Session session = model.newSession();
                Adapter json = model.openAdapter(demo + "/json-extract");
                Adapter verse = model.openAdapter(demo + "/stage-verse")) {
            List<Message> messages = new ArrayList<>();
            messages.add(Message.user("Maria Lopez, 34, moved from Lisbon to Oslo in 2019 to work as a nurse."));
            GenerateOptions options = new GenerateOptions();
            options.maxTokens = 60;
            session.setAdapter(json);
            Answer answer = session.generate(messages, options, null);
            equal(answer.finish, Answer.Finish.EOS);
            check(answer.text.startsWith("{\"name\": \"Maria Lopez\", \"age\": 34"), answer.text);
            messages.add(Message.assistant(answer.text));
            messages.add(Message.user("Tell me about the sea."));
            session.setAdapter(verse);
            Answer second = session.generate(messages, options, null);
            check(second.reusedTokens > 0 && !second.text.isEmpty(), "the conversation is not evaluated again");
            session.setAdapter(null);
            messages.add(Message.assistant(second.text));
            messages.add(Message.user("Thank you."));
            check(session.generate(messages, options, null).reusedTokens > second.reusedTokens, "nor the second time");
        }
    }

    static void emoji() {
        try (Model model = Model.open(real); Session session = model.newSession()) {
            // Pieces are whole characters, also where a character is several tokens.
            int[] rocket = model.tokenize(" \ud83d\ude80", false, false);
            check(rocket.length > 1, "a character of several tokens");
            List<String> pieces = new ArrayList<>();
            session.generate("\ud83d\ude80 \ud83d\ude80 \ud83d\ude80 \ud83d\ude80 \ud83d\ude80 \ud83d\ude80 \ud83d\ude80 \ud83d\ude80", tokens(24), pieces::add);
            boolean seen = false;
            for (String piece : pieces) {
                seen |= piece.contains("\ud83d\ude80");
                check(!Character.isLowSurrogate(piece.charAt(0)), "whole characters");
                check(!Character.isHighSurrogate(piece.charAt(piece.length() - 1)), "whole characters");
            }
            check(seen, String.join("|", pieces));
        }
    }
}
