import dev.graft.Adapter;
import dev.graft.Answer;
import dev.graft.Cancel;
import dev.graft.ChatOptions;
import dev.graft.GenerateOptions;
import dev.graft.GraftException;
import dev.graft.Message;
import dev.graft.Model;
import dev.graft.ModelOptions;
import dev.graft.Sampling;
import dev.graft.Session;
import dev.graft.SessionOptions;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
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

/**
 * The tests of the Java binding, without a test library. Most use a tiny random model of the repository; those of texts that mean something
 * use SmolLM2.
 *
 * <p>Arguments: the repository, the file of SmolLM2.
 */
public final class GraftTest {
    private static final String EMOJI = "caf\u00e9 \ud83d\ude80 \ud83d\udc69\u200d\ud83d\udcbb \u0000 \u65e5\u672c";

    private static String tiny;
    private static String real;
    private static Path scratch;

    private interface Test {
        void run() throws Exception;
    }

    public static void main(String[] args) throws Exception {
        tiny = args[0] + "/tests/data/tiny/llama-tied";
        real = args[1];
        String demo = args[0] + "/demo/adapters";
        scratch = Files.createTempDirectory("graft-jni");
        Map<String, Test> tests = new LinkedHashMap<>();
        tests.put("info", GraftTest::info);
        tests.put("texts cross whole", GraftTest::texts);
        tests.put("a file, a descriptor and a buffer give the same model", GraftTest::sources);
        tests.put("a buffer is kept, and let go", GraftTest::bufferIsReleased);
        tests.put("errors say where", GraftTest::errors);
        tests.put("wrong arguments", GraftTest::wrongArguments);
        tests.put("what is closed cannot be used", GraftTest::closed);
        tests.put("closing in any order", GraftTest::closeOrder);
        tests.put("text, tokens and listener agree", GraftTest::streaming);
        tests.put("sampling has a seed", GraftTest::sampling);
        tests.put("a listener's exception ends the generation", GraftTest::listenerThrows);
        tests.put("a session is busy while it generates", GraftTest::busy);
        tests.put("cancelled by a second thread", GraftTest::cancelFromThread);
        tests.put("a flag ends work", GraftTest::flag);
        tests.put("closed by a second thread while it generates", GraftTest::closeWhileGenerating);
        tests.put("three adapters in one conversation", GraftTest::switchAdapters);
        tests.put("an adapter from memory", GraftTest::adapterFromMemory);
        tests.put("eight sessions in eight threads", GraftTest::manyThreads);
        tests.put("saved and restored", GraftTest::state);
        tests.put("embeddings", GraftTest::embeddings);
        tests.put("full contexts", GraftTest::context);
        tests.put("chat", () -> chat(demo));
        tests.put("emoji from a real model", GraftTest::emoji);

        int passed = 0;
        int failed = 0;
        for (Map.Entry<String, Test> test : tests.entrySet()) {
            try {
                test.getValue().run();
                passed++;
                System.out.println("ok      " + test.getKey());
            } catch (Throwable e) {
                failed++;
                System.out.println("FAILED  " + test.getKey());
                e.printStackTrace(System.out);
            }
        }
        try (DirectoryStream<Path> files = Files.newDirectoryStream(scratch)) {
            for (Path file : files) {
                Files.delete(file);
            }
        }
        Files.delete(scratch);
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    // What is asked of results.

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void equal(Object found, Object expected) {
        check(expected.equals(found), "expected " + expected + ", found " + found);
    }

    private static <E extends Throwable> E thrown(Class<E> kind, Test test) throws Exception {
        try {
            test.run();
        } catch (Throwable e) {
            if (kind.isInstance(e)) {
                return kind.cast(e);
            }
            throw new AssertionError("expected " + kind + ", found " + e, e);
        }
        throw new AssertionError("expected " + kind + ", found nothing");
    }

    private static GraftException graft(GraftException.Status status, Test test) throws Exception {
        GraftException e = thrown(GraftException.class, test);
        check(e.getStatus() == status, "expected " + status + ", found " + e.getStatus() + ": " + e.getMessage());
        check(e.getMessage().length() > status.name().length(), "says no more than its status: " + e.getMessage());
        return e;
    }

    private static Model tinyModel() {
        return Model.open(tiny + "/model.gguf");
    }

    private static Adapter tinyAdapter(Model model, String name) {
        return model.openAdapter(tiny + "/adapters/" + name);
    }

    private static GenerateOptions tokens(long n) {
        GenerateOptions options = new GenerateOptions();
        options.maxTokens = n;
        options.ignoreEos = true;
        return options;
    }

    // Models.

    private static void info() {
        try (Model model = tinyModel()) {
            equal(model.info().architecture, "llama");
            check(model.info().vocabSize > 0 && model.info().layers > 0 && model.info().hiddenSize > 0, "sizes");
            check(model.info().isa != null && model.info().threads > 0, "the machine");
            check(model.metadataKeys().contains("general.architecture"), "keys");
            equal(model.metadata("general.architecture"), "\"llama\"");
            check(Model.libraryVersion().matches("\\d+\\.\\d+\\.\\d+.*"), "version");
            try (Adapter adapter = tinyAdapter(model, "all-linear")) {
                equal(adapter.info().method, "LORA");
                check(adapter.info().sites > 0 && adapter.info().minRank > 0 && adapter.info().parameters > 0, "the adapter");
            }
        }
    }

    private static void texts() {
        try (Model model = Model.open(real)) {
            equal(model.detokenize(model.tokenize(EMOJI, false, false)), EMOJI);
            equal(model.tokenize("").length, 0);
            int[] rocket = model.tokenize("\ud83d\ude80", false, false);
            byte[] bytes = new byte[4];
            int n = 0;
            for (int token : rocket) {
                for (byte b : model.tokenBytes(token)) {
                    bytes[n++] = b;
                }
            }
            check(Arrays.equals(bytes, "\ud83d\ude80".getBytes(StandardCharsets.UTF_8)), "the bytes of tokens");
            int end = model.findToken("<|im_end|>");
            check(end >= 0 && model.isEnd(end) && !model.isEnd(rocket[0]), "the end token");
            equal(model.findToken("no such token"), -1);
            check(model.tokenize("<|im_end|>", false, true).length == 1, "control tokens where they are asked for");
            check(model.tokenize("<|im_end|>", false, false).length > 1, "control tokens where they are not");
            equal(model.detokenize(new int[] {end}, true), "");
            equal(model.detokenize(new int[] {end}, false), "<|im_end|>");
            equal(model.render(Message.user(EMOJI)).contains(EMOJI), true);
            ChatOptions options = new ChatOptions();
            options.template = "{% for m in messages %}[{{ m.role }}:{{ m.content }}:{{ m.name }}]{% endfor %}";
            Message named = new Message("tool", "\u00e4", "{\"name\": \"\ud83d\ude80\"}");
            equal(model.render(Arrays.asList(Message.system(""), named), options), "[system::][tool:\u00e4:\ud83d\ude80]");
        }
    }

    private static void sources() throws Exception {
        byte[] bytes = Files.readAllBytes(Paths.get(tiny, "model.gguf"));
        float[] expected;
        int[] prompt = {5, 6, 7};
        try (Model model = tinyModel(); Session session = model.newSession()) {
            expected = session.eval(prompt);
            equal(expected.length, model.info().vocabSize);
        }
        ModelOptions read = new ModelOptions();
        read.read = true;
        read.threads = 2;
        try (Model model = Model.open(tiny + "/model.gguf", read); Session session = model.newSession()) {
            check(Arrays.equals(session.eval(prompt), expected), "the same logits, read");
            equal(model.info().threads, 2);
        }

        // In the middle of a file, as an asset is in an Android app, and not at a page.
        Path package_ = scratch.resolve("package");
        byte[] packed = new byte[bytes.length + 8192];
        int offset = 4096 + 4;
        System.arraycopy(bytes, 0, packed, offset, bytes.length);
        Files.write(package_, packed);
        Model asset;
        try (RandomAccessFile file = new RandomAccessFile(package_.toFile(), "r")) {
            asset = Model.open(descriptor(package_), offset, bytes.length, new ModelOptions());
        }
        try (Session session = asset.newSession()) {
            asset.close();
            check(Arrays.equals(session.eval(prompt), expected), "the same logits from a descriptor");
        }
        try (FileChannel channel = FileChannel.open(package_)) {
            ByteBuffer mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, packed.length);
            mapped.position(offset).limit(offset + bytes.length);
            try (Model model = Model.open(mapped, new ModelOptions()); Session session = model.newSession()) {
                check(Arrays.equals(session.eval(prompt), expected), "the same logits from a mapped buffer");
            }
        }
        thrown(IllegalArgumentException.class, () -> Model.open(ByteBuffer.wrap(bytes), new ModelOptions()));
    }

    /** The descriptor of the file that this process has open: Android tells it, Java does not. */
    private static int descriptor(Path file) throws IOException {
        try (DirectoryStream<Path> links = Files.newDirectoryStream(Paths.get("/proc/self/fd"))) {
            for (Path link : links) {
                try {
                    if (Files.readSymbolicLink(link).equals(file.toRealPath())) {
                        return Integer.parseInt(link.getFileName().toString());
                    }
                } catch (IOException gone) {
                    continue; // the folder's own descriptor
                }
            }
        }
        throw new AssertionError(file + " is not open");
    }

    private static void bufferIsReleased() throws Exception {
        byte[] bytes = Files.readAllBytes(Paths.get(tiny, "model.gguf"));
        ByteBuffer buffer = ByteBuffer.allocateDirect(bytes.length);
        buffer.put(bytes).flip();
        WeakReference<ByteBuffer> weak = new WeakReference<>(buffer);
        Model model = Model.open(buffer, new ModelOptions());
        buffer = null;
        System.gc();
        check(weak.get() != null, "the buffer is kept while there is a model");
        try (Session session = model.newSession()) {
            model.close();
            System.gc();
            session.eval(1, 2);
            check(weak.get() != null, "the buffer is kept while there is a session");
        }
        for (int i = 0; i < 100 && weak.get() != null; i++) {
            System.gc();
            Thread.sleep(10);
        }
        check(weak.get() == null, "the buffer is let go");

        for (int size : new int[] {0, 64}) {
            graft(GraftException.Status.INVALID, () -> Model.open(ByteBuffer.allocateDirect(size), new ModelOptions()));
        }
    }

    // Errors.

    private static void errors() throws Exception {
        GraftException missing = graft(GraftException.Status.IO, () -> Model.open("/no/such/\ud83d\ude80.gguf"));
        equal(missing.getFile(), "/no/such/\ud83d\ude80.gguf");
        Path broken = scratch.resolve("broken.gguf");
        Files.write(broken, "no model".getBytes(StandardCharsets.UTF_8));
        equal(graft(GraftException.Status.INVALID, () -> Model.open(broken.toString())).getFile(), broken.toString());
        graft(GraftException.Status.USAGE, () -> Model.open(-1, 0, 0, new ModelOptions()));
        try (Model model = tinyModel(); Session session = model.newSession(); Model other = Model.open(real)) {
            graft(GraftException.Status.IO, () -> model.openAdapter("/no/such/adapter"));
            graft(GraftException.Status.MISMATCH, () -> tinyAdapter(other, "qv"));
            graft(GraftException.Status.USAGE, () -> session.eval(model.info().vocabSize));
            graft(GraftException.Status.USAGE, () -> session.eval(-1));
            graft(GraftException.Status.USAGE, () -> model.metadata("no.such.key"));
            graft(GraftException.Status.USAGE, () -> model.tokenBytes(-1));
            graft(GraftException.Status.USAGE, () -> session.truncate(1));
            GraftException state = graft(GraftException.Status.INVALID, () -> session.restore(new byte[] {1, 2, 3}));
            check(state.getItem() != null || state.getExpected() != null || state.getFound() != null, "where: " + state.getMessage());
            GenerateOptions options = new GenerateOptions();
            options.sampling = new Sampling();
            options.sampling.temperature = -1;
            equal(graft(GraftException.Status.USAGE, () -> session.generate(new int[] {1}, options, null)).getItem(), "temperature");
            try (Adapter adapter = tinyAdapter(model, "qv"); Session elsewhere = other.newSession()) {
                graft(GraftException.Status.MISMATCH, () -> elsewhere.setAdapter(adapter));
                graft(GraftException.Status.USAGE, () -> session.setAdapters(Collections.singletonMap(adapter, Float.NaN)));
            }
        }
    }

    private static void wrongArguments() throws Exception {
        thrown(NullPointerException.class, () -> Model.open(null));
        try (Model model = tinyModel(); Session session = model.newSession()) {
            thrown(NullPointerException.class, () -> model.tokenize(null));
            thrown(NullPointerException.class, () -> session.generate((String) null, null));
            thrown(NullPointerException.class, () -> session.generate(new int[] {1}, null, null));
            thrown(NullPointerException.class, () -> new Message("user", null, null));
            thrown(IllegalArgumentException.class, () -> session.generate(new int[] {1}, tokens(-1), null));
            SessionOptions options = new SessionOptions();
            options.context = -1;
            thrown(IllegalArgumentException.class, () -> model.newSession(options));
            session.eval(1); // nothing is held by what failed
        }
    }

    private static void closed() throws Exception {
        Model model = tinyModel();
        Session session = model.newSession();
        Adapter adapter = tinyAdapter(model, "qv");
        Cancel cancel = new Cancel();
        adapter.close();
        cancel.close();
        thrown(IllegalStateException.class, () -> session.setAdapter(adapter));
        thrown(IllegalStateException.class, cancel::set);
        GenerateOptions options = tokens(1);
        options.cancel = cancel;
        thrown(IllegalStateException.class, () -> session.generate(new int[] {1}, options, null));
        session.eval(1); // is not held by what failed
        session.close();
        session.close();
        session.cancel();
        thrown(IllegalStateException.class, () -> session.eval(1));
        thrown(IllegalStateException.class, () -> session.generate("x", null));
        model.close();
        thrown(IllegalStateException.class, model::newSession);
        thrown(IllegalStateException.class, () -> model.tokenize("x"));
        equal(model.info().architecture, "llama");
    }

    private static void closeOrder() {
        for (int order = 0; order < 6; order++) {
            Model model = tinyModel();
            Adapter adapter = tinyAdapter(model, "all-linear");
            Session session = model.newSession();
            session.setAdapter(adapter);
            float[] expected = session.eval(1, 2, 3);
            session.reset();
            AutoCloseable[][] orders = {
                {model, adapter, session}, {model, session, adapter}, {adapter, model, session},
                {adapter, session, model}, {session, model, adapter}, {session, adapter, model}
            };
            boolean open = true;
            for (AutoCloseable each : orders[order]) {
                try {
                    each.close();
                } catch (Exception e) {
                    throw new AssertionError(e);
                }
                open &= each != session;
                check(!open || Arrays.equals(session.eval(1, 2, 3), expected), "the session goes on");
                if (open) {
                    session.reset();
                }
            }
        }
    }

    // Generating.

    private static void streaming() {
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

    private static void sampling() {
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

    private static int[] sampled(Session session, GenerateOptions options) {
        session.reset();
        session.generate(new int[] {3, 4}, options, null);
        return session.tokens();
    }

    private static void listenerThrows() throws Exception {
        try (Model model = Model.open(real); Session session = model.newSession()) {
            IOException own = new IOException("the listener's own");
            int[] shown = {0};
            Throwable found = thrown(IOException.class, () -> session.generate("Once upon a time", tokens(1000), text -> {
                if (++shown[0] == 3) {
                    GraftTest.<RuntimeException>sneak(own);
                }
            }));
            check(found == own, "the very exception");
            equal(shown[0], 3);
            session.reset();
            session.generate("Once upon a time", tokens(2), null); // is not busy
        }
    }

    @SuppressWarnings("unchecked")
    private static <E extends Throwable> void sneak(Throwable e) throws E {
        throw (E) e;
    }

    private static void busy() throws Exception {
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

    private static void cancelFromThread() throws Exception {
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

    private static void flag() {
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

    private static void closeWhileGenerating() throws Exception {
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

    private static void switchAdapters() {
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

    private static SessionOptions exact() {
        SessionOptions options = new SessionOptions();
        options.exact = true;
        return options;
    }

    private static boolean close(float[] a, float[] b) {
        boolean close = a.length == b.length;
        for (int i = 0; close && i < a.length; i++) {
            close = Math.abs(a[i] - b[i]) < 1e-4f;
        }
        return close;
    }

    private static void adapterFromMemory() throws Exception {
        Path folder = Paths.get(tiny, "adapters", "rslora");
        byte[] config = Files.readAllBytes(folder.resolve("adapter_config.json"));
        byte[] tensors = Files.readAllBytes(folder.resolve("adapter_model.safetensors"));
        try (Model model = tinyModel();
                Adapter file = tinyAdapter(model, "rslora");
                Adapter memory = model.openAdapter(config, tensors);
                Session session = model.newSession()) {
            session.setAdapter(file);
            float[] expected = session.eval(1, 2);
            session.reset();
            session.setAdapter(memory);
            check(Arrays.equals(session.eval(1, 2), expected), "the same logits");
            graft(GraftException.Status.INVALID, () -> model.openAdapter(new byte[0], tensors));
        }
    }

    // Threads.

    private static void manyThreads() throws Exception {
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

    private static void state() throws Exception {
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

    private static void embeddings() throws Exception {
        try (Model model = Model.open(real); Session session = model.newSession()) {
            float[] cat = session.embed("The cat sleeps on the sofa.", Session.Pooling.MEAN);
            float[] kitten = session.embed("A kitten is sleeping on the couch.", Session.Pooling.MEAN);
            float[] tax = session.embed("Income tax returns are due in April.", Session.Pooling.MEAN);
            equal(cat.length, model.info().hiddenSize);
            check(cosine(cat, kitten) > cosine(cat, tax), cosine(cat, kitten) + " > " + cosine(cat, tax));
            check(!Arrays.equals(session.embed("The cat sleeps on the sofa.", Session.Pooling.LAST), cat), "pooling");
        }
    }

    private static double cosine(float[] a, float[] b) {
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

    private static void context() throws Exception {
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

    private static void chat(String demo) {
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

    private static void emoji() {
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
