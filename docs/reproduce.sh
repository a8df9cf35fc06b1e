#!/bin/sh
# sh docs/reproduce.sh DATA [PART]: makes the results and figures in docs/ again.
#
# DATA: the folder of the real data (python -m data.download all). PART: only runs with this in their name.
# A finished run is kept (remove its folder under results/docs/ to repeat it); a stopped one resumes. All of them take
# about two hours on one thread of a CPU.
set -eu
data=$(cd "${1:?which folder holds the real data? sh docs/reproduce.sh DATA}" && pwd)
part=${2:-}
cd "$(dirname "$0")/.."
python=.venv/bin/python
[ -x "$python" ] || python=python3
export OMP_NUM_THREADS=1

run() { # run NAME "PLOT ..." SCRIPT FLAG ...: copies results.json to docs/NAME.json and each plot to docs/NAME-PLOT.png
    name=$1 plots=$2 script=$3 folder=results/docs/$1
    shift 3
    case $name in *"$part"*) ;; *) return 0 ;; esac
    mkdir -p results/docs/cache "$folder"
    ln -sfn ../cache "$folder/cache" # the drawings and features are shared
    if ! ls "$folder/$script"*/results.json > /dev/null 2>&1; then
        "$python" "$script.py" --results "$folder" "$@"
    fi
    cp "$folder/$script"*/results.json "docs/$name.json"
    for plot in $plots; do
        cp "$folder/$script"*/"$plot.png" "docs/$name-$plot.png"
    done
}

run style_transfer-builtin "sheet mosaic-curves lines-curves strokes-curves" style_transfer --data builtin
run image_captioning-builtin "learning_curves samples_rnn samples_lstm" image_captioning --data builtin
run image_captioning-full-builtin "learning_curves samples_rnn samples_lstm" image_captioning --full --data builtin
run transfer_learning-builtin "learning_curves visualize_freeze" transfer_learning --data builtin
run transfer_learning-builtin-seed1 "" transfer_learning --data builtin --seed 1
run transfer_learning-builtin-seed2 "" transfer_learning --data builtin --seed 2
run sentiment-builtin "learning_curves" sentiment --data builtin --seeds 0 1 2

drawings=$(ls -dt results/docs/cache/drawn-styles-* 2> /dev/null | head -n 1)
for style in mosaic lines strokes; do
    run "style_transfer-imagenet-$style" "stylized" style_transfer --data "$data" --preset "$style" \
        --content "$drawings/town.png" --style "$drawings/$style.png"
done

case style_transfer-judge in *"$part"*) "$python" docs/judge.py "$data" ;; esac
run style_transfer-real "composition_vii-curves the_scream-curves starry_night-curves" style_transfer --data "$data"
run sentiment-real "learning_curves test_accuracy" sentiment --data "$data" --seeds 0 1 2
mkdir -p results/docs/sentences # without word vectors
for split in train dev test unlabelled; do ln -sfn "$data/$split.txt" results/docs/sentences/; done
run sentiment-real-noglove "" sentiment --data results/docs/sentences --seeds 0 1 2
run image_captioning-real "learning_curves" image_captioning --data "$data"
run transfer_learning-real "learning_curves confusion" transfer_learning --data "$data"
run transfer_learning-real-seed1 "" transfer_learning --data "$data" --seed 1
run transfer_learning-real-seed2 "" transfer_learning --data "$data" --seed 2
run image_captioning-full-real-rnn "" image_captioning --full --cells rnn --data "$data"
run image_captioning-full-real-lstm "" image_captioning --full --cells lstm --data "$data"
case image_captioning-full-real in *"$part"*) PYTHONPATH=. "$python" - << 'END' ;; esac # both curves, side by side
import json, image_captioning, common.plots

saved = [json.load(open(f"docs/image_captioning-full-real-{cell}.json")) for cell in ("rnn", "lstm")]
figure = image_captioning.plot_epochs(saved[0]["metrics"] | saved[1]["metrics"], "Flickr8k; features: resnet50")
common.plots.save(figure, "docs/image_captioning-full-real-learning_curves.png")
END
run image_captioning-full-real-rnn-seed1 "" image_captioning --full --cells rnn --data "$data" --seed 1
run image_captioning-full-real-rnn-seed2 "" image_captioning --full --cells rnn --data "$data" --seed 2
case benchmark in *"$part"*) OMP_NUM_THREADS=2 "$python" -m tests.benchmark --pairs 11 --save docs/benchmark.json ;; esac
