import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The tests of the Java binding, without a test library. Most use a tiny random model of the repository; those of texts that mean something
 * use SmolLM2.
 *
 * <p>Arguments: the repository, the file of SmolLM2.
 */
public final class GraftTest {
    public static void main(String[] args) throws Exception {
        Check.tiny = args[0] + "/tests/data/tiny/llama-tied";
        Check.demo = args[0] + "/demo/adapters";
        Check.real = args[1];
        Check.scratch = Files.createTempDirectory("graft-jni");
        Map<String, Check.Test> tests = new LinkedHashMap<>();
        tests.put("info", ModelTest::info);
        tests.put("texts cross whole", ModelTest::texts);
        tests.put("a file, a descriptor and a buffer give the same model", ModelTest::sources);
        tests.put("a buffer is kept, and let go", ModelTest::bufferIsReleased);
        tests.put("errors say where", ModelTest::errors);
        tests.put("wrong arguments", ModelTest::wrongArguments);
        tests.put("what is closed cannot be used", ModelTest::closed);
        tests.put("closing in any order", ModelTest::closeOrder);
        tests.put("text, tokens and listener agree", SessionTest::streaming);
        tests.put("sampling has a seed", SessionTest::sampling);
        tests.put("a listener's exception ends the generation", SessionTest::listenerThrows);
        tests.put("a session is busy while it generates", SessionTest::busy);
        tests.put("cancelled by a second thread", SessionTest::cancelFromThread);
        tests.put("a flag ends work", SessionTest::flag);
        tests.put("closed by a second thread while it generates", SessionTest::closeWhileGenerating);
        tests.put("three adapters in one conversation", SessionTest::switchAdapters);
        tests.put("an adapter from memory", ModelTest::adapterFromMemory);
        tests.put("eight sessions in eight threads", SessionTest::manyThreads);
        tests.put("saved and restored", SessionTest::state);
        tests.put("embeddings", SessionTest::embeddings);
        tests.put("full contexts", SessionTest::context);
        tests.put("chat", SessionTest::chat);
        tests.put("emoji from a real model", SessionTest::emoji);

        int passed = 0;
        int failed = 0;
        for (Map.Entry<String, Check.Test> test : tests.entrySet()) {
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
        try (DirectoryStream<Path> files = Files.newDirectoryStream(Check.scratch)) {
            for (Path file : files) {
                Files.delete(file);
            }
        }
        Files.delete(Check.scratch);
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}
